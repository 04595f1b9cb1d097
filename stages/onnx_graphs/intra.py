"""InTra as a graph.

Legend: S side that the network sees; T side of the image; K patch side; G = S / K grid side; P = K * K * 3 values of a
patch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stages.detectors.intra.config import IntraConfig
from stages.detectors.intra.model import build
from stages.detectors.intra.restore import pixel_map
from stages.detectors.intra.windows import centred
from stages.detectors.shared.named_arrays import arrays_below
from stages.detectors.shared.network_weights import load_weights
from stages.detectors.shared.pixel_maps import PixelKind, pixel_scale
from stages.onnx_graphs.compare import feature_comparison, reduce_pixels
from stages.onnx_graphs.interface import ExportGraph, image_input
from stages.types import Fitted, Samples, batches


class Inpainting(nn.Module):
    """Image (1, T, T, 3) uint8 -> map and its maximum."""

    positions: Tensor
    covered: Tensor
    mean: Tensor
    scale: Tensor

    def __init__(self, fitted: Fitted, config: IntraConfig, cnn: nn.Module | None) -> None:
        super().__init__()
        self._config = config
        self.network = build(config, seed=0)
        load_weights(self.network, fitted.arrays)
        windows = centred(config.grid_side, config.window_side)
        self.register_buffer("positions", torch.from_numpy(windows.positions))  # (G * G, T)
        self.register_buffer("covered", torch.from_numpy(windows.covered))
        self.compared = feature_comparison(fitted.arrays, config, cnn)
        self._by: PixelKind = "ssim" if config.compare == "features" else config.compare
        if self.compared is None:
            good = arrays_below(fitted.arrays, f"{self._by}.")
            self.register_buffer("mean", torch.from_numpy(good["mean"].copy()))
            self.register_buffer("scale", torch.from_numpy(pixel_scale(good["spread"])).float())

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        side, grid, patch = self._config.image_side, self._config.grid_side, self._config.patch_side
        whole = image.permute(0, 3, 1, 2).float()  # (1, 3, T, T)
        pixels = reduce_pixels(whole, side)[0].permute(1, 2, 0) / 255  # (S, S, 3)
        patches = pixels.reshape(grid, patch, grid, patch, 3).transpose(1, 2).reshape(grid * grid, -1)  # (G * G, P)
        painted = [
            self.network(patches[self.positions[rows]], self.positions[rows], self.covered[rows])
            for rows in batches(grid * grid, self._config.inference_windows)
        ]
        restored = torch.cat(painted).clamp(0, 1).view(grid, grid, patch, patch, 3)
        restored = restored.transpose(1, 2).reshape(side, side, 3)  # (G, K, G, K, 3) -> (S, S, 3)
        if self.compared is not None:
            plane = self.compared(whole, restored.permute(2, 0, 1)[None])
            return plane, plane.max()
        plane = pixel_map(pixels, restored, self._by, self._config.smoothing_side) - self.mean
        plane = plane.square() if self._by == "msgms" else plane / self.scale
        return plane, plane.max()


def graph(fitted: Fitted, config: IntraConfig, samples: Samples, cnn: nn.Module | None) -> ExportGraph:
    """See `interface.Graph`."""
    return ExportGraph(Inpainting(fitted, config, cnn).eval(), (image_input(config.input_side),))
