"""The fusion as a graph. Its inputs are the outputs of the members' graphs: maps and scores.

Legend: s side of a member's map; S side of the fused map; Q knots of a rank normalization.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from stages.fusion.fusion import normalize
from stages.onnx_graphs.interface import ExportGraph, Input
from stages.types import Fitted


class RankNormalization(nn.Module):
    """`normalize`: a piecewise linear function, in double precision because two knots may differ in the last bit."""

    scores: Tensor
    quantiles: Tensor

    def __init__(self, knots: NDArray[np.float64]) -> None:
        super().__init__()
        first, last = knots[0, 0], knots[0, -1]
        width = last - first or 1.0
        # One more knot beyond each end, on the straight line there, so that every value lies between two knots.
        outer = np.array([first - width, last + width])
        below, above = np.stack([outer, normalize(outer, knots)], axis=1)[:, :, None]  # (2, 1) each
        scores, quantiles = np.concatenate([below, knots, above], axis=1)  # (Q + 2,) each
        self.register_buffer("scores", torch.from_numpy(scores))
        self.register_buffer("quantiles", torch.from_numpy(quantiles))

    def forward(self, values: Tensor) -> Tensor:
        """Values of any shape -> normal quantiles of the same shape."""
        flat, last = values.double().flatten(), len(self.scores) - 2
        knot = torch.zeros_like(flat, dtype=torch.int64)  # the last knot at or below each value, by bisection
        for power in reversed(range(last.bit_length())):
            probe = (knot + 2**power).clamp(max=last)
            knot = torch.where(self.scores[probe] <= flat, probe, knot)
        start, end = self.scores[knot], self.scores[knot + 1]
        low, high = self.quantiles[knot], self.quantiles[knot + 1]
        return (low + (flat - start) / (end - start) * (high - low)).view(values.shape)


class Mean(nn.Module):
    """Map and score of each member in turn -> mean of the normalized maps (S, S), and of the normalized scores."""

    def __init__(self, fitted: Fitted, sides: Mapping[str, int]) -> None:
        super().__init__()
        arrays, side = fitted.arrays, int(fitted.info["side"])
        self.of_map = nn.ModuleList(RankNormalization(arrays[f"{name}.map"]) for name in sides)
        self.of_score = nn.ModuleList(RankNormalization(arrays[f"{name}.score"]) for name in sides)
        for i, member_side in enumerate(sides.values()):
            # Bilinear resizing is linear along each axis: its responses to the unit vectors, (S, s).
            responses = F.interpolate(torch.eye(member_side).double()[:, None], side, mode="linear")[:, 0].T
            self.register_buffer(f"resize_{i}", responses.contiguous())

    def forward(self, *given: Tensor) -> tuple[Tensor, Tensor]:
        planes, scores = [], []
        for i, (normalize_map, normalize_score) in enumerate(zip(self.of_map, self.of_score, strict=True)):
            resize = self.get_buffer(f"resize_{i}")
            planes.append(resize @ normalize_map(given[2 * i]) @ resize.T)  # (S, s) @ (s, s) @ (s, S)
            scores.append(normalize_score(given[2 * i + 1]))
        return torch.stack(planes).mean(0).float(), torch.stack(scores).mean().float()


def graph(fitted: Fitted, sides: Mapping[str, int]) -> ExportGraph:
    """The graph of the fusion.

    Args:
        sides: by member, in the order of the fusion: the side of its map.
    """
    inputs = []
    for name, side in sides.items():
        inputs += [
            Input(f"{name}_map", (side, side), "float32", f"anomaly_map of {name}.onnx"),
            Input(f"{name}_score", (), "float32", f"image_score of {name}.onnx"),
        ]
    return ExportGraph(Mean(fitted, sides).eval(), tuple(inputs))
