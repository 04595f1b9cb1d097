"""InTra as a graph.

Legend: S side of what the network sees, T of the image; K patch side; G = S / K grid side; P = K * K * 3 values of a
patch.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from stages.detectors.intra.config import IntraConfig
from stages.detectors.intra.detector import difference_map
from stages.detectors.intra.model import build
from stages.detectors.intra.windows import centred
from stages.detectors.shared.comparison import PixelKind
from stages.onnx_graphs.compare import compared, reduced
from stages.onnx_graphs.interface import ExportGraph, image_input
from stages.onnx_graphs.parts import part_of, state_of
from stages.types import Fitted, Samples, batches


class Inpainting(nn.Module):
    """(1, T, T, 3) uint8 -> map and its maximum."""

    positions: Tensor
    covered: Tensor
    mean: Tensor
    scale: Tensor

    def __init__(self, fitted: Fitted, config: IntraConfig, cnn: nn.Module | None) -> None:
        super().__init__()
        self._config = config
        self.network = build(config, seed=0)
        self.network.load_state_dict(state_of(fitted.arrays))
        windows = centred(config.grid_side, config.window_side)
        self.register_buffer("positions", torch.from_numpy(windows.positions))  # (G * G, T)
        self.register_buffer("covered", torch.from_numpy(windows.covered))
        self.compared = compared(fitted.arrays, config, cnn)
        self._by: PixelKind = "ssim" if config.compare == "features" else config.compare
        if self.compared is None:
            normal = part_of(fitted.arrays, f"{self._by}.")
            variance = np.square(normal["spread"], dtype=np.float64)
            scale = np.sqrt(variance + variance.mean() + 1e-12).astype(np.float32)
            self.register_buffer("mean", torch.from_numpy(normal["mean"].copy()))
            self.register_buffer("scale", torch.from_numpy(scale))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        side, grid, patch = self._config.image_side, self._config.grid_side, self._config.patch_side
        whole = image.permute(0, 3, 1, 2).float()  # (1, 3, T, T)
        pixels = reduced(whole, side)[0].permute(1, 2, 0) / 255  # (S, S, 3)
        cut = pixels.reshape(grid, patch, grid, patch, 3).transpose(1, 2).reshape(grid * grid, -1)  # (G * G, P)
        painted = [
            self.network(cut[self.positions[rows]], self.positions[rows], self.covered[rows])
            for rows in batches(grid * grid, self._config.inference_windows)
        ]
        restored = torch.cat(painted).clamp(0, 1).view(grid, grid, patch, patch, 3)
        restored = restored.transpose(1, 2).reshape(side, side, 3)  # (G, K, G, K, 3) -> (S, S, 3)
        if self.compared is not None:
            plane = self.compared(whole, restored.permute(2, 0, 1)[None])
            return plane, plane.max()
        plane = difference_map(pixels, restored, self._by, self._config.smoothing_side) - self.mean
        plane = plane.square() if self._by == "msgms" else plane / self.scale
        return plane, plane.max()


def graph(fitted: Fitted, config: IntraConfig, samples: Samples, cnn: nn.Module | None) -> ExportGraph:
    """See `interface.Graph`."""
    return ExportGraph(Inpainting(fitted, config, cnn).eval(), (image_input(config.input_side),))
