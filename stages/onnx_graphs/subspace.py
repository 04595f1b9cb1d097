"""The unexplained part of features as a graph."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.detectors.subspace.config import SubspaceConfig
from stages.onnx_graphs.interface import ExportGraph
from stages.onnx_graphs.parts import deployed_input, feature_graph, smooth
from stages.types import Fitted, Samples


class Unexplained(nn.Module):
    """(h, w, C) features -> (h, w) squared norm of what the components leave."""

    mean: Tensor
    components: Tensor

    def __init__(self, mean: NDArray[Any], components: NDArray[Any]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(mean.copy()))
        self.register_buffer("components", torch.from_numpy(components.copy()))

    def forward(self, features: Tensor) -> Tensor:
        centred = (features - self.mean).flatten(0, 1)  # (h, w, C) -> (P, C)
        rest = centred - (centred @ self.components.T) @ self.components
        return rest.square().sum(1).view(features.shape[:2])


def graph(fitted: Fitted, config: SubspaceConfig, samples: Samples, cnn: nn.Module | None) -> ExportGraph:
    """See `interface.Graph`."""
    source, grid = deployed_input(config, samples)
    distance = Unexplained(*(fitted.arrays[f"{config.features}.{name}"] for name in ("mean", "components")))
    return feature_graph(config, source, cnn, distance, smooth(grid, config.smoothing), config.top_share)
