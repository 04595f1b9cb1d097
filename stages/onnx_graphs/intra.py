"""InTra as a graph.

Legend: S side in pixels or tokens; Z channels of them; G grid side; P values of a patch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stages.detectors.intra.canvas import Canvas
from stages.detectors.intra.config import IntraConfig
from stages.detectors.intra.model import build
from stages.detectors.intra.pixels import pixel_map
from stages.detectors.intra.restore import joined
from stages.detectors.intra.windows import centred
from stages.detectors.shared.named_arrays import arrays_below
from stages.detectors.shared.network_weights import load_weights
from stages.detectors.shared.pixel_maps import pixel_scale
from stages.onnx_graphs.interface import ExportGraph
from stages.onnx_graphs.tokens import TokenRest, restored_input
from stages.types import Fitted, Samples, batches


class Inpainting(nn.Module):
    """Canvas (S, S, Z) -> its restoration (S, S, Z)."""

    positions: Tensor
    covered: Tensor

    def __init__(self, fitted: Fitted, config: IntraConfig, canvas: Canvas) -> None:
        super().__init__()
        self._config, self._canvas = config, canvas
        self.network = build(config, canvas, seed=0)
        load_weights(self.network, fitted.arrays)
        windows = centred(canvas.grid, config.window_side)
        self.register_buffer("positions", torch.from_numpy(windows.positions))  # (G * G, T)
        self.register_buffer("covered", torch.from_numpy(windows.covered))

    def forward(self, canvas: Tensor) -> Tensor:
        grid, patch = self._canvas.grid, self._canvas.patch
        cut = canvas.reshape(grid, patch, grid, patch, -1).transpose(1, 2)
        patches = cut.reshape(grid * grid, self._canvas.values)  # (G * G, P)
        painted = [
            self.network(patches[self.positions[rows]], self.positions[rows], self.covered[rows])
            for rows in batches(grid * grid, self._config.inference_windows)
        ]
        return joined(torch.cat(painted), self._canvas, self._config)


class OfPixels(nn.Module):
    """Image (1, S, S, 3) uint8 -> map and its maximum."""

    mean: Tensor
    scale: Tensor

    def __init__(self, fitted: Fitted, config: IntraConfig) -> None:
        super().__init__()
        self._config = config
        self.paint = Inpainting(fitted, config, config.canvas((config.image_side, config.image_side, 3)))
        good = arrays_below(fitted.arrays, f"{config.compare}.")
        self.register_buffer("mean", torch.from_numpy(good["mean"].copy()))
        self.register_buffer("scale", torch.from_numpy(pixel_scale(good["spread"])).float())

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        pixels = image[0].float() / 255  # (S, S, 3)
        plane = pixel_map(pixels, self.paint(pixels), self._config.compare, self._config.smoothing_side) - self.mean
        plane = plane.square() if self._config.compare == "msgms" else plane / self.scale
        return plane, plane.max()


class OfTokens(nn.Module):
    """Image (1, S, S, 3) uint8, or tokens (1, h, w, C) -> map and its maximum."""

    def __init__(self, fitted: Fitted, config: IntraConfig, cnn: nn.Module | None) -> None:
        super().__init__()
        self.rest = TokenRest(fitted.arrays, config, cnn)
        canvas = config.canvas(self.rest.shape)
        self.paint = Inpainting(fitted, config, canvas) if config.restore == "network" else None

    def forward(self, given: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.rest.standardised(given)
        reduced = self.rest.reduce(tokens)
        # rounded as the detector rounds them
        restored = torch.zeros_like(reduced) if self.paint is None else self.paint(reduced.half().float())
        plane = self.rest(tokens, restored)
        return plane, plane.max()


def graph(fitted: Fitted, config: IntraConfig, samples: Samples, cnn: nn.Module | None) -> ExportGraph:
    """See `interface.Graph`."""
    module: nn.Module = OfPixels(fitted, config) if config.space == "pixels" else OfTokens(fitted, config, cnn)
    return ExportGraph(module.eval(), (restored_input(config, samples),))
