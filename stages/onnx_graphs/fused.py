"""The fusion as a graph: the members' maps and scores in, as their own graphs give them.

Legend: s side of a member's map; S side of the fused map; Q knots of a calibration.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from stages.fusion.fusion import calibrated
from stages.onnx_graphs.interface import ExportGraph, Input
from stages.types import Fitted


class Calibration(nn.Module):
    """`calibrated`: a piecewise linear function, in double, since knots may lie as close as the scores can tell."""

    scores: Tensor
    quantiles: Tensor

    def __init__(self, knots: NDArray[np.float64]) -> None:
        super().__init__()
        first, last = knots[0, 0], knots[0, -1]
        width = last - first or 1.0
        # A knot beyond each end, on the straight line there; then every value has a knot at both sides.
        outer = np.array([first - width, last + width])
        below, above = np.stack([outer, calibrated(outer, knots)], axis=1)[:, :, None]  # (2, 1) each
        scores, quantiles = np.concatenate([below, knots, above], axis=1)  # (Q + 2,) each
        self.register_buffer("scores", torch.from_numpy(scores))
        self.register_buffer("quantiles", torch.from_numpy(quantiles))

    def forward(self, values: Tensor) -> Tensor:
        """Of any shape."""
        flat, last = values.double().flatten(), len(self.scores) - 2
        left = torch.zeros_like(flat, dtype=torch.int64)  # the knot at the left, by bisection
        for power in reversed(range(last.bit_length())):
            probe = (left + 2**power).clamp(max=last)
            left = torch.where(self.scores[probe] <= flat, probe, left)
        start, end = self.scores[left], self.scores[left + 1]
        low, high = self.quantiles[left], self.quantiles[left + 1]
        return (low + (flat - start) / (end - start) * (high - low)).view(values.shape)


class Mean(nn.Module):
    """Maps and scores of the members in turn -> mean of the calibrated maps (S, S), and of the calibrated scores."""

    def __init__(self, fitted: Fitted, sides: Mapping[str, int]) -> None:
        super().__init__()
        arrays, side = fitted.arrays, int(fitted.info["side"])
        self.of_map = nn.ModuleList(Calibration(arrays[f"{name}.map"]) for name in sides)
        self.of_score = nn.ModuleList(Calibration(arrays[f"{name}.score"]) for name in sides)
        for i, own in enumerate(sides.values()):
            # Bilinear resizing is linear along each axis: its answer to the unit vectors, (S, s).
            answer = F.interpolate(torch.eye(own).double()[:, None], side, mode="linear")[:, 0].T
            self.register_buffer(f"resize_{i}", answer.contiguous())

    def forward(self, *given: Tensor) -> tuple[Tensor, Tensor]:
        planes, scores = [], []
        for i, (of_map, of_score) in enumerate(zip(self.of_map, self.of_score, strict=True)):
            resize = self.get_buffer(f"resize_{i}")
            planes.append(resize @ of_map(given[2 * i]) @ resize.T)  # (S, s) @ (s, s) @ (s, S)
            scores.append(of_score(given[2 * i + 1]))
        return torch.stack(planes).mean(0).float(), torch.stack(scores).mean().float()


def graph(fitted: Fitted, sides: Mapping[str, int]) -> ExportGraph:
    """`sides`: the side of each member's map, in the order of the fusion."""
    inputs = []
    for name, side in sides.items():
        inputs += [
            Input(f"{name}_map", (side, side), "float32", f"anomaly_map of {name}.onnx"),
            Input(f"{name}_score", (), "float32", f"image_score of {name}.onnx"),
        ]
    return ExportGraph(Mean(fitted, sides).eval(), tuple(inputs))
