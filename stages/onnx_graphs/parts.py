"""What several graphs share: filters, distances of features from normal ones, and maps of them.

Legend: S image side; h, w grid; P = h * w patches; C channels; M features in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn
from torch.nn import functional as F

from stages.detectors.shared.features import FeatureConfig
from stages.detectors.shared.gaussian import Gaussian
from stages.detectors.shared.nearest import CHUNK
from stages.detectors.shared.surroundings import neighbours
from stages.onnx_graphs.interface import ExportGraph, Input, feature_input, image_input
from stages.types import Samples, batches


class Filter(nn.Module):
    """A linear filter of (..., h, w) planes that goes along one axis, then along the other.

    Its answer to the unit vectors says all of it: kernel, where that is cut off, border.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, shape: tuple[int, int], along: Callable[[NDArray[np.float64]], NDArray[Any]]) -> None:
        """`along`: the filter along the first axis of a matrix."""
        super().__init__()
        for name, size in zip(("rows", "columns"), shape, strict=True):
            self.register_buffer(name, torch.from_numpy(along(np.eye(size))).float())  # (out, size)

    def forward(self, planes: Tensor) -> Tensor:
        return self.rows @ planes @ self.columns.T  # (H, h) @ (..., h, w) @ (w, W)


def smooth(shape: tuple[int, int], sigma: float, mode: str = "reflect") -> Filter:
    """`gaussian_filter`."""
    return Filter(shape, partial(gaussian_filter, sigma=(sigma, 0), mode=mode))


def bilinear(shape: tuple[int, int], side: int) -> Filter:
    """`F.interpolate` to (side, side), with its weights: ONNX Runtime's Resize takes them from a rounded scale."""

    def along(unit: NDArray[np.float64]) -> NDArray[Any]:
        planes = torch.from_numpy(unit)[None].float()  # (1, size, size), the last axis resized
        return F.interpolate(planes, side, mode="linear", align_corners=False)[0].T.numpy()

    return Filter(shape, along)


class Nearest(nn.Module):
    """(h, w, C) features -> (h, w) mean distance to the nearest `neighbours` of a memory, as `Search.distances`.

    The memory stays in half precision, and a bounded number of rows is compared at a time.
    """

    features: Tensor
    centre: Tensor
    spread: Tensor

    def __init__(self, memory: Mapping[str, NDArray[Any]], neighbours: int) -> None:
        super().__init__()
        self._neighbours = neighbours
        spread = np.where(memory["spread"] > 0, memory["spread"], 1).astype(np.float32)
        for name, value in (("features", memory["features"]), ("centre", memory["centre"]), ("spread", spread)):
            self.register_buffer(name, torch.from_numpy(np.array(value)))

    def forward(self, features: Tensor) -> Tensor:
        queries = (features.flatten(0, 1) - self.centre) / self.spread  # (h, w, C) -> (P, C)
        nearest: list[Tensor] = []  # one at most: (P, k) squared distances
        for rows in batches(len(self.features), CHUNK):
            part = (self.features[rows].float() - self.centre) / self.spread  # (m, C)
            sums = queries.square().sum(1)[:, None] + part.square().sum(1)[None]
            squared = (sums - 2 * queries @ part.T).clamp(min=0)  # (P, m)
            both = torch.cat([*nearest, squared], dim=1)
            nearest = [both.topk(min(self._neighbours, both.shape[1]), dim=1, largest=False).values]
        return nearest[0].sqrt().mean(1).view(features.shape[:2])


class Mahalanobis(nn.Module):
    """(h, w, C) features -> (h, w) distance from a Gaussian at each position, as `gaussian.Distance`."""

    mean: Tensor
    matrices: Tensor

    def __init__(self, gaussian: Gaussian) -> None:
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(gaussian.mean.copy()))
        self.register_buffer("matrices", torch.from_numpy(gaussian.matrices()))

    def forward(self, features: Tensor) -> Tensor:
        centred = (features - self.mean).flatten(0, 1)  # (h, w, C) -> (P, C)
        white = self.matrices @ centred[:, :, None]  # (P, C, 1)
        return white.square().sum((1, 2)).sqrt().view(features.shape[:2])


class Left(nn.Module):
    """What is left of features where their surroundings, and more inputs, predict them: `surroundings.left`."""

    prediction: Tensor

    def __init__(self, shape: tuple[int, int], distance: int, prediction: NDArray[np.float32]) -> None:
        super().__init__()
        self._near = [
            (torch.from_numpy(rows), torch.from_numpy(columns)) for rows, columns in neighbours(shape, distance)
        ]
        self.register_buffer("prediction", torch.from_numpy(prediction.copy()))

    def forward(self, features: Tensor, *more: Tensor) -> Tensor:
        """(h, w, C) features, and (h, w, E) each of the inputs beside their surroundings."""
        around = [features.index_select(0, rows).index_select(1, columns) for rows, columns in self._near]
        return features - torch.cat([*around, *more], dim=-1) @ self.prediction


class FeatureMap(nn.Module):
    """Map and maximum of a distance that each patch's features have, smoothed; the CNN's features or those given."""

    def __init__(self, cnn: nn.Module | None, distance: nn.Module, smoothing: nn.Module) -> None:
        super().__init__()
        self.cnn, self.distance, self.smooth = cnn, distance, smoothing

    def forward(self, given: Tensor) -> tuple[Tensor, Tensor]:
        """(1, S, S, 3) uint8 for a CNN, else (1, h, w, C)."""
        features = given
        if self.cnn is not None:
            stack, _ = self.cnn(given.permute(0, 3, 1, 2).float())
            features = stack.permute(0, 2, 3, 1)
        plane = self.smooth(self.distance(features[0]))
        return plane, plane.max()


def feature_input_of(config: FeatureConfig, samples: Samples) -> tuple[Input, tuple[int, int]]:
    """What a detector of patch features reads, for the kind that is deployed, and the grid (h, w) of the features."""
    if config.features == "imagenet":
        side = config.image_side // config.patch
        return image_input(config.image_side), (side, side)
    read = feature_input(config.features, samples)
    return read, (read.shape[1], read.shape[2])


def feature_graph(
    config: FeatureConfig, read: Input, cnn: nn.Module | None, distance: nn.Module, smoothing: nn.Module
) -> ExportGraph:
    """The graph of a detector of patch features."""
    network = cnn if config.features == "imagenet" else None
    return ExportGraph(FeatureMap(network, distance, smoothing).eval(), (read,))


def part_of(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    """The arrays whose names start with the prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}


def state_of(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Tensor]:
    """The weights of the network that a detector saved below `network.`."""
    return {name: torch.from_numpy(np.array(value)) for name, value in part_of(arrays, "network.").items()}
