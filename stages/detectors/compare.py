"""Image against restoration: pixel by pixel, or in the features of an ImageNet CNN.

`ssim` and `msgms`: 1 - similarity of the pixels (`stages.detectors.similarity`).

`features`: how unlikely the image's features are, given those of its restoration. The network sees, and paints, the
image reduced to S pixels; features are those of the whole image and of the restoration enlarged to its side. A linear
map, one for all positions, predicts the former from the latter, and at each position a Gaussian over what it leaves is
fitted to training images (`stages.detectors.gaussian`). Where a restoration says nothing, this is PaDiM.

Sources: features in place of pixels: Johnson et al., "Perceptual losses", ECCV 2016; the rest is ours.

Legend: N images; B of them in a batch; S side of what the network sees, T of the images; h, w grid of features; C
channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional as F

from stages.detectors.gaussian import Distance, Gaussian, contrast
from stages.detectors.interface import CompareConfig
from stages.detectors.similarity import msgms, ssim
from stages.types import Extract, Rows, ScoreMap, UserError, batches

PixelKind = Literal["ssim", "msgms"]
PIXEL_KINDS: tuple[PixelKind, ...] = ("ssim", "msgms")
BATCH = 8
"""Images whose features, and those of their restorations, are taken at once."""
PREDICTED_ON = 64
"""Training images, evenly spread, that the linear map is fitted to: thousands of patches a channel."""
PREDICTION_RIDGE = 1e-3
SHRINKAGE, RIDGE, SMOOTHING = 0.5, 1e-3, 1.0
"""PaDiM's (stages/detectors/padim)."""
Pictures = NDArray[np.uint8]
HALF_UP = 2**-10
"""Added before rounding to grey levels. Enlarging by a simple fraction gives exact halves, and which way they go must
not hang on the last bit, which another processor or ONNX Runtime computes otherwise."""


def unlike(image: Tensor, restoration: Tensor, kind: PixelKind) -> Tensor:
    """1 - similarity: two (B, 3, S, S) in [0, 1] -> (B, 1, S, S)."""
    return 1 - (ssim(image, restoration) if kind == "ssim" else msgms(image, restoration))


def as_bytes(restoration: Tensor) -> Pictures:
    """(3, S, S) in [0, 1] -> (S, S, 3)."""
    return restoration.permute(1, 2, 0).mul(255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()


def reduced(images: Rows, side: int) -> Pictures:
    """(N, T, T, 3) -> (N, side, side, 3), the mean over squares of pixels, halves up; T is a multiple of `side`."""
    count, large = images.shape[:2]
    factor = large // side
    small = np.empty((count, side, side, 3), np.uint8)
    for rows in batches(count, BATCH):
        sums = images[rows].reshape(-1, side, factor, side, factor, 3).sum(axis=(2, 4), dtype=np.uint32)
        small[rows] = (sums + factor**2 // 2) // factor**2
    return small


def enlarged(images: Pictures, side: int) -> Pictures:
    """(B, S, S, 3) -> (B, side, side, 3), bilinear, pixel centres aligned."""
    pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float()
    large = F.interpolate(pixels, (side, side), mode="bilinear", align_corners=False)
    return large.add(HALF_UP).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


def fit(
    pairs: Callable[[NDArray[np.int64]], tuple[Pictures, Pictures]],
    count: int,
    extract: Extract | None,
    config: CompareConfig,
) -> dict[str, NDArray[Any]]:
    """Arrays of `Comparison`, from normal images.

    Args:
        pairs: numbers of some of the `count` images -> them, (B, T, T, 3), and their restorations, (B, S, S, 3).

    Raises:
        UserError: no ImageNet features are at hand.
    """
    features = _Features(extract, config)
    few = np.unique(np.linspace(0, count - 1, min(count, PREDICTED_ON)).round().astype(np.int64))
    images, restorations = zip(*(features(*pairs(few[rows])) for rows in batches(len(few), BATCH)), strict=True)
    prediction = _prediction(np.concatenate(images), np.concatenate(restorations))
    left = (
        _left(*features(*pairs(np.arange(rows.start, rows.stop))), prediction, config.contrast)
        for rows in batches(count, BATCH)
    )
    return {"compare.prediction": prediction} | Gaussian.fitted(left, SHRINKAGE, RIDGE).named("compare.")


class Comparison:
    """What `fit` found, applied."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]], extract: Extract | None, config: CompareConfig) -> None:
        self._features, self._contrast = _Features(extract, config), config.contrast
        self._prediction = arrays["compare.prediction"]
        self._distance = Distance(Gaussian.of(arrays, "compare."))

    def maps(self, images: Pictures, restorations: Pictures) -> list[NDArray[np.float32]]:
        """Smoothed map (h, w) of each of up to `BATCH` images (B, T, T, 3) and restorations (B, S, S, 3)."""
        left = _left(*self._features(images, restorations), self._prediction, self._contrast)
        return [gaussian_filter(self._distance(one), SMOOTHING) for one in left]

    def scored(self, images: Pictures, by_pixels: Sequence[ScoreMap]) -> Iterator[ScoreMap]:
        """What up to `BATCH` images got by pixels, with the map in features in place of that by pixels; the image score
        is its maximum."""
        planes = self.maps(images, np.stack([one.pictures["restoration"] for one in by_pixels]))
        for one, plane in zip(by_pixels, planes, strict=True):
            yield replace(one, anomaly_map=plane, image_score=float(plane.max()))


class _Features:
    """Features of images and of their restorations, (B, h, w, C) each."""

    def __init__(self, extract: Extract | None, config: CompareConfig) -> None:
        if extract is None:
            raise UserError(
                "compare: features needs the features of an ImageNet CNN, with which the images do not come"
            )
        self._extract, self._side = extract, config.compare_side

    def __call__(self, images: Pictures, restorations: Pictures) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        found = self._extract(np.concatenate([images, enlarged(restorations, self._side)]))
        return found[: len(images)], found[len(images) :]


def _prediction(images: NDArray[np.float32], restorations: NDArray[np.float32]) -> NDArray[np.float32]:
    """(C, C) ridge regression of images' features from restorations', both less their mean at each position."""
    inputs, outputs = (
        (block - block.mean(axis=0)).reshape(-1, block.shape[-1]).astype(np.float64)  # (n * h * w, C)
        for block in (restorations, images)
    )
    gram = inputs.T @ inputs
    scale = np.diagonal(gram).mean()
    # the tiny constant keeps a single image, or equal ones, from dividing by zero
    gram += (PREDICTION_RIDGE * scale + 1e-9) * np.eye(len(gram))
    return np.linalg.solve(gram, inputs.T @ outputs).astype(np.float32)


def _left(
    images: NDArray[np.float32], restorations: NDArray[np.float32], prediction: NDArray[np.float32], side: int
) -> NDArray[np.float32]:
    """What the prediction leaves of the images' features, less its surroundings: (B, h, w, C)."""
    # image by image: a product of more rows may sum in another order
    return np.stack([contrast(a - b @ prediction, side) for a, b in zip(images, restorations, strict=True)])
