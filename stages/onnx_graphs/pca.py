"""The PCA baseline as a graph.

Legend: S image side in pixels; D = S * S pixels; K components.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stages.detectors.pca.config import PcaConfig
from stages.onnx_graphs.interface import ExportGraph, image_input
from stages.types import Fitted, Samples


class Reconstruction(nn.Module):
    """(1, S, S, 3) uint8 -> squared error (S, S) and its mean."""

    mean: Tensor
    components: Tensor

    def __init__(self, fitted: Fitted) -> None:
        super().__init__()
        for name in ("mean", "components"):
            self.register_buffer(name, torch.from_numpy(fitted.arrays[name].copy()))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        side = image.shape[1]
        grey = image[0].float().mean(-1).flatten()  # (D,)
        grey = grey - grey.mean()
        centred = grey / (grey.square().mean().sqrt() + 1e-4) - self.mean
        if len(self.components):
            centred = centred - (self.components @ centred) @ self.components  # (K, D) @ (D,), (K,) @ (K, D)
        error = centred.square()
        return error.view(side, side), error.mean()


def graph(fitted: Fitted, config: PcaConfig, samples: Samples, cnn: nn.Module | None) -> ExportGraph:
    """See `interface.Graph`."""
    return ExportGraph(Reconstruction(fitted).eval(), (image_input(config.image_side),))
