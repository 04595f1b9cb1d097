"""Nearest neighbours as a graph."""

from __future__ import annotations

from torch import nn

from stages.detectors.knn.config import KnnConfig
from stages.onnx_graphs.interface import ExportGraph
from stages.onnx_graphs.parts import Nearest, feature_graph, feature_input_of, part_of, smooth
from stages.types import Fitted, Samples


def graph(fitted: Fitted, config: KnnConfig, samples: Samples, cnn: nn.Module | None) -> ExportGraph:
    """See `interface.Graph`."""
    read, grid = feature_input_of(config, samples)
    distance = Nearest(part_of(fitted.arrays, f"{config.features}."), config.neighbours)
    return feature_graph(config, read, cnn, distance, smooth(grid, config.smoothing))
