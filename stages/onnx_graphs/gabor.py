"""The Gabor baseline as a graph.

Legend: S image side in pixels; G grid side; P = G * G positions; d features per position.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stages.detectors.gabor.bank import features, filters
from stages.detectors.gabor.config import GaborConfig
from stages.onnx_graphs.interface import ExportGraph, image_input
from stages.onnx_graphs.parts import smooth
from stages.types import Fitted, Samples


class FilterBank(nn.Module):
    """(1, S, S, 3) uint8 -> smoothed Mahalanobis map (G, G) and its maximum."""

    bank: Tensor
    mean: Tensor
    whitening: Tensor

    def __init__(self, fitted: Fitted, config: GaborConfig) -> None:
        super().__init__()
        self._config = config
        self.register_buffer("bank", filters(config))
        for name in ("mean", "whitening"):
            self.register_buffer(name, torch.from_numpy(fitted.arrays[name].copy()))
        self.smooth = smooth((config.grid, config.grid), config.smoothing)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        grey = image[0].float().mean(-1) / 255  # (S, S)
        values = features(grey, self.bank, self._config)  # (P, d)
        # In double precision, as in the detector: whitening multiplies a feature that hardly varies by a large number.
        white = self.whitening.double() @ (values.double() - self.mean.double())[:, :, None]  # (P, d, 1)
        distance = white[:, :, 0].square().sum(1).sqrt().float()
        plane = self.smooth(distance.view(self._config.grid, self._config.grid))
        return plane, plane.max()


def graph(fitted: Fitted, config: GaborConfig, samples: Samples, cnn: nn.Module | None) -> ExportGraph:
    """See `interface.Graph`."""
    return ExportGraph(FilterBank(fitted, config).eval(), (image_input(config.image_side),))
