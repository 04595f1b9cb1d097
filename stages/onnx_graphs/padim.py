"""PaDiM as a graph."""

from __future__ import annotations

from torch import nn

from stages.detectors.padim.config import PadimConfig
from stages.detectors.shared.gaussian import Gaussian
from stages.onnx_graphs.interface import ExportGraph
from stages.onnx_graphs.parts import Left, Mahalanobis, feature_graph, feature_input_of, smooth
from stages.types import Fitted, Samples


def graph(fitted: Fitted, config: PadimConfig, samples: Samples, cnn: nn.Module | None) -> ExportGraph:
    """See `interface.Graph`."""
    read, grid = feature_input_of(config, samples)
    distance: nn.Module = Mahalanobis(Gaussian.of(fitted.arrays, f"{config.features}."))
    if config.surroundings:
        left = Left(grid, config.surroundings, fitted.arrays[f"{config.features}.prediction"])
        distance = nn.Sequential(left, distance)
    return feature_graph(config, read, cnn, distance, smooth(grid, config.smoothing))
