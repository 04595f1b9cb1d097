"""Modules that several graphs share: filters, distances from the features of good images, and maps of distances.

Legend: S image side in pixels; h, w grid; P = h * w patches; C channels; M features in memory.
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
from stages.detectors.shared.highest import top_count
from stages.detectors.shared.nearest import CHUNK, channel_divisor
from stages.detectors.shared.surroundings import neighbour_indices
from stages.onnx_graphs.interface import ExportGraph, Input, feature_input, image_input
from stages.types import Samples, batches


class Filter(nn.Module):
    """A separable linear filter of (..., h, w) planes: along one axis, then along the other.

    It is stored as its responses to the unit vectors, which contain its kernel, the kernel's cut-off and the border.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, shape: tuple[int, int], along: Callable[[NDArray[np.float64]], NDArray[Any]]) -> None:
        """
        Args:
            shape: (h, w) of the planes.
            along: the filter along the first axis of a matrix.
        """
        super().__init__()
        for name, size in zip(("rows", "columns"), shape, strict=True):
            self.register_buffer(name, torch.from_numpy(along(np.eye(size))).float())  # (out, size)

    def forward(self, planes: Tensor) -> Tensor:
        return self.rows @ planes @ self.columns.T  # (H, h) @ (..., h, w) @ (w, W)


def smooth(shape: tuple[int, int], sigma: float, mode: str = "reflect") -> Filter:
    """`scipy.ndimage.gaussian_filter`."""
    return Filter(shape, partial(gaussian_filter, sigma=(sigma, 0), mode=mode))


def bilinear(shape: tuple[int, int], side: int) -> Filter:
    """`F.interpolate` to (side, side), with PyTorch's weights: ONNX Runtime's Resize computes other weights from a
    rounded scale."""

    def along(unit: NDArray[np.float64]) -> NDArray[Any]:
        planes = torch.from_numpy(unit)[None].float()  # (1, size, size), the last axis resized
        return F.interpolate(planes, side, mode="linear", align_corners=False)[0].T.numpy()

    return Filter(shape, along)


class Nearest(nn.Module):
    """(h, w, C) features -> (h, w) mean distance to the nearest `neighbours` features of a memory: `Search.distances`.

    The memory is stored in half precision, and compared a bounded number of rows at a time.
    """

    features: Tensor
    centre: Tensor
    spread: Tensor

    def __init__(self, memory: Mapping[str, NDArray[Any]], neighbours: int, unit_length: bool = False) -> None:
        """`unit_length`: whether features are brought to length 1, as those of the memory have it."""
        super().__init__()
        self._neighbours, self._unit_length = neighbours, unit_length
        spread = channel_divisor(memory["spread"])
        for name, value in (("features", memory["features"]), ("centre", memory["centre"]), ("spread", spread)):
            self.register_buffer(name, torch.from_numpy(np.array(value)))

    def forward(self, features: Tensor) -> Tensor:
        flat = features.flatten(0, 1)  # (h, w, C) -> (P, C)
        if self._unit_length:
            flat = flat / flat.square().sum(1, keepdim=True).sqrt().clamp(min=torch.finfo(torch.float32).tiny)
        queries = (flat - self.centre) / self.spread
        nearest: list[Tensor] = []  # empty, or (P, k) squared distances
        for rows in batches(len(self.features), CHUNK):
            part = (self.features[rows].float() - self.centre) / self.spread  # (m, C)
            sums = queries.square().sum(1)[:, None] + part.square().sum(1)[None]
            squared = (sums - 2 * queries @ part.T).clamp(min=0)  # (P, m)
            both = torch.cat([*nearest, squared], dim=1)
            nearest = [both.topk(min(self._neighbours, both.shape[1]), dim=1, largest=False).values]
        return nearest[0].sqrt().mean(1).view(features.shape[:2])


class Mahalanobis(nn.Module):
    """(h, w, C) features -> (h, w) distance from the Gaussian at each position: `gaussian.Distance`."""

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


class Residual(nn.Module):
    """Features minus their prediction from surroundings: `surroundings.residual`."""

    prediction: Tensor

    def __init__(self, shape: tuple[int, int], distance: int, prediction: NDArray[np.float32]) -> None:
        super().__init__()
        self._neighbours = [
            (torch.from_numpy(rows), torch.from_numpy(columns)) for rows, columns in neighbour_indices(shape, distance)
        ]
        self.register_buffer("prediction", torch.from_numpy(prediction.copy()))

    def forward(self, features: Tensor) -> Tensor:
        """(h, w, C) -> (h, w, C)."""
        neighbours = [features.index_select(0, rows).index_select(1, columns) for rows, columns in self._neighbours]
        return features - torch.cat(neighbours, dim=-1) @ self.prediction


class FeatureMap(nn.Module):
    """Smoothed map of the distance of each patch's features, and the mean of its highest cells. The input is an image
    or features."""

    def __init__(self, cnn: nn.Module | None, distance: nn.Module, smoothing: nn.Module, top_share: float) -> None:
        super().__init__()
        self.cnn, self.distance, self.smooth = cnn, distance, smoothing
        self._top_share = top_share

    def forward(self, given: Tensor) -> tuple[Tensor, Tensor]:
        """
        Args:
            given: (1, S, S, 3) uint8 images with a CNN, otherwise (1, h, w, C) features.
        """
        features = given
        if self.cnn is not None:
            stack, _ = self.cnn(given.permute(0, 3, 1, 2).float())
            features = stack.permute(0, 2, 3, 1)
        plane = self.smooth(self.distance(features[0]))
        return plane, plane.flatten().topk(top_count(self._top_share * plane.numel())).values.mean()


def deployed_input(config: FeatureConfig, samples: Samples) -> tuple[Input, tuple[int, int]]:
    """The input of a detector of patch features, for the deployed kind, and the grid (h, w) of the features."""
    if config.features == "imagenet":
        side = config.image_side // config.patch
        return image_input(config.image_side), (side, side)
    source = feature_input(config.features, samples)
    return source, (source.shape[1], source.shape[2])


def feature_graph(
    config: FeatureConfig,
    source: Input,
    cnn: nn.Module | None,
    distance: nn.Module,
    smoothing: nn.Module,
    top_share: float = 0.0,
) -> ExportGraph:
    """The graph of a detector of patch features."""
    network = cnn if config.features == "imagenet" else None
    return ExportGraph(FeatureMap(network, distance, smoothing, top_share).eval(), (source,))
