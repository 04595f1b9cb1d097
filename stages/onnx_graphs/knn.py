"""Nearest neighbours as a graph."""

from __future__ import annotations

from torch import nn

from stages.detectors.knn.config import KnnConfig
from stages.detectors.shared.named_arrays import arrays_below
from stages.onnx_graphs.interface import ExportGraph
from stages.onnx_graphs.parts import Nearest, deployed_input, feature_graph, smooth
from stages.types import Fitted, Samples


def graph(fitted: Fitted, config: KnnConfig, samples: Samples, cnn: nn.Module | None) -> ExportGraph:
    """See `interface.Graph`."""
    source, grid = deployed_input(config, samples)
    distance = Nearest(arrays_below(fitted.arrays, f"{config.features}."), config.neighbours, config.metric == "cosine")
    return feature_graph(config, source, cnn, distance, smooth(grid, config.smoothing), config.top_share)
