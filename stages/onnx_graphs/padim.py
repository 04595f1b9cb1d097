"""PaDiM as a graph."""

from __future__ import annotations

from torch import nn

from stages.detectors.padim.config import PadimConfig
from stages.detectors.shared.gaussian import Gaussian
from stages.onnx_graphs.interface import ExportGraph
from stages.onnx_graphs.parts import Mahalanobis, deployed_input, feature_graph, smooth
from stages.types import Fitted, Samples


def graph(fitted: Fitted, config: PadimConfig, samples: Samples, cnn: nn.Module | None) -> ExportGraph:
    """See `interface.Graph`."""
    source, grid = deployed_input(config, samples)
    distance = Mahalanobis(Gaussian.from_arrays(fitted.arrays, f"{config.features}."))
    return feature_graph(config, source, cnn, distance, smooth(grid, config.smoothing))
