"""Image against restoration: pixel by pixel, or in the features of an ImageNet CNN.

`ssim` and `msgms`: 1 - similarity of the pixels (`stages.detectors.similarity`).

`features`: how unlikely the image's features are, given those around them and those of its restoration. The network
sees, and paints, the image reduced to S pixels; features are those of the whole image and of the restoration enlarged
to its side. A linear map, one for all positions, predicts a cell's features from those of the cells around it and from
the restoration's, as far as that was painted unseen (`stages.detectors.surroundings`); at each position a Gaussian over
what it leaves is fitted to normal images, and the distance from it divided by what is usual there
(`stages.detectors.gaussian`).

Sources: features in place of pixels: Johnson et al., "Perceptual losses", ECCV 2016; the rest is ours.

Legend: N images; B of them in a batch; S side of what the network sees, T of the images; h, w grid of features; C
channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional as F

from stages.detectors.interface import CompareConfig
from stages.detectors.shared import surroundings
from stages.detectors.shared.gaussian import Distance, Gaussian, Sums
from stages.detectors.shared.similarity import msgms, ssim
from stages.types import Extract, Rows, ScoreMap, UserError, batches

PixelKind = Literal["ssim", "msgms"]
PIXEL_KINDS: tuple[PixelKind, ...] = ("ssim", "msgms")
BATCH = 8
"""Images whose features, and those of their restorations, are taken at once."""
SHRINKAGE, RIDGE, SMOOTHING = 0.5, 1e-3, 1.0
"""PaDiM's (stages/detectors/padim)."""
Pictures = NDArray[np.uint8]
HALF_UP = 2**-10
"""Added before rounding to grey levels. Enlarging by a simple fraction gives exact halves, and which way they go must
not hang on the last bit, which another processor or ONNX Runtime computes otherwise."""


def unlike(image: Tensor, restoration: Tensor, kind: PixelKind) -> Tensor:
    """1 - similarity: two (B, 3, S, S) in [0, 1] -> (B, 1, S, S)."""
    return 1 - (ssim(image, restoration) if kind == "ssim" else msgms(image, restoration))


class Normals:
    """Mean and spread, at each pixel, of normal images' pixel maps of each kind."""

    def __init__(self, side: int) -> None:
        self._count, self._sums = 0, {kind: np.zeros((2, side, side)) for kind in PIXEL_KINDS}

    def add(self, differences: Mapping[PixelKind, NDArray[np.float32]]) -> None:
        """(S, S) maps of an image."""
        self._count += 1
        for kind, plane in differences.items():
            values = plane.astype(np.float64)
            self._sums[kind] += values, values**2

    def named(self, prefix: str = "") -> dict[str, NDArray[np.float32]]:
        """`<kind>.mean` and `<kind>.spread`, a standard deviation, (S, S) each, of all images so far."""
        arrays = {}
        for kind, (mean, squares) in ((kind, sums / self._count) for kind, sums in self._sums.items()):
            arrays[f"{prefix}{kind}.mean"] = mean.astype(np.float32)
            arrays[f"{prefix}{kind}.spread"] = np.sqrt(np.maximum(squares - mean**2, 0)).astype(np.float32)
        return arrays


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


@dataclass(frozen=True)
class Painted:
    """Images, and what a network painted of them."""

    images: Pictures
    """(B, T, T, 3)."""
    restorations: Pictures
    """(B, S, S, 3)."""
    unseen: NDArray[Any] | None = None
    """(B, S, S) 1 where the network painted what it had not seen, 0 where it had. None: 1 everywhere."""


class Learner:
    """The arrays of `Comparison`, from normal images."""

    def __init__(self, extract: Extract | None, config: CompareConfig) -> None:
        """
        Raises:
            UserError: no ImageNet features are at hand.
        """
        self._features, self._config = _Features(extract, config), config
        self._predicted: dict[str, NDArray[Any]] = {}
        self._sums = Sums()

    def add(self, images: Rows, restorations: Pictures, unseen: NDArray[Any] | None = None) -> None:
        """Some images (N, T, T, 3); what surroundings and restoration predict is learnt from the first that are added.

        Args:
            restorations: (N, S, S, 3).
            unseen: (N, S, S) as in `Painted`.
        """

        def painted(rows: slice | NDArray[np.int64]) -> Painted:
            return Painted(images[rows], restorations[rows], None if unseen is None else unseen[rows])

        if not self._predicted:
            self._predicted = self._prediction(painted, surroundings.few(len(restorations)))
        left = _Left(self._predicted, self._config)
        for rows in batches(len(restorations), BATCH):
            self._sums.add(np.stack(left(*self._features(painted(rows)))))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Of all images so far."""
        return self._predicted | self._sums.gaussian(SHRINKAGE, RIDGE, normalised=True).named("compare.")

    def _prediction(
        self, painted: Callable[[NDArray[np.int64]], Painted], few: NDArray[np.int64]
    ) -> dict[str, NDArray[Any]]:
        read = [self._features(painted(few[rows])) for rows in batches(len(few), BATCH)]
        images, restorations, shares = (np.concatenate(part) for part in zip(*read, strict=True))
        mean = restorations.mean(axis=0)
        prediction = surroundings.fit(images, self._config.surroundings, shares * (restorations - mean))
        return {"compare.prediction": prediction, "compare.restored": mean}


class Comparison:
    """What `Learner` found, applied."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]], extract: Extract | None, config: CompareConfig) -> None:
        self._features, self._left = _Features(extract, config), _Left(arrays, config)
        self._distance = Distance(Gaussian.of(arrays, "compare."))

    def maps(self, painted: Painted) -> list[NDArray[np.float32]]:
        """Smoothed map (h, w) of each of up to `BATCH` images."""
        return [gaussian_filter(self._distance(one), SMOOTHING) for one in self._left(*self._features(painted))]

    def scored(
        self, images: Pictures, by_pixels: Sequence[ScoreMap], unseen: NDArray[Any] | None = None
    ) -> Iterator[ScoreMap]:
        """What up to `BATCH` images got by pixels, with the map in features in place of that by pixels; the image score
        is its maximum. `unseen`: as in `Painted`."""
        restorations = np.stack([one.pictures["restoration"] for one in by_pixels])
        for one, plane in zip(by_pixels, self.maps(Painted(images, restorations, unseen)), strict=True):
            yield replace(one, anomaly_map=plane, image_score=float(plane.max()))


def share_of(side: int, cells: int) -> NDArray[np.float32]:
    """(cells, side) share of each cell that each of `side` pixels in a line covers."""
    size, pixel = side / cells, np.arange(side)
    start = np.arange(cells)[:, None] * size
    overlap = np.minimum(start + size, pixel + 1) - np.maximum(start, pixel)
    return (overlap.clip(min=0) / size).astype(np.float32)


class _Features:
    """Features of images and of their restorations, (B, h, w, C) each, and the share of each cell, (B, h, w, 1), that
    was painted unseen."""

    def __init__(self, extract: Extract | None, config: CompareConfig) -> None:
        if extract is None:
            raise UserError(
                "compare: features needs the features of an ImageNet CNN, with which the images do not come"
            )
        self._extract, self._side = extract, config.compare_side

    def __call__(self, painted: Painted) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        found = self._extract(np.concatenate([painted.images, enlarged(painted.restorations, self._side)]))
        images, restorations = np.split(found, 2)
        if painted.unseen is None:
            return images, restorations, np.ones_like(images[..., :1])
        rows, columns = (share_of(painted.unseen.shape[1], cells) for cells in images.shape[1:3])
        shares = np.stack([rows @ one.astype(np.float32) @ columns.T for one in painted.unseen])
        return images, restorations, shares[..., None]


class _Left:
    """What is left of features where surroundings and restoration have predicted them."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]], config: CompareConfig) -> None:
        self._prediction, self._mean = arrays["compare.prediction"], arrays["compare.restored"]
        self._distance = config.surroundings

    def __call__(
        self, images: NDArray[np.float32], restorations: NDArray[np.float32], shares: NDArray[np.float32]
    ) -> list[NDArray[np.float32]]:
        # image by image: a product of more rows may sum in another order
        return [
            surroundings.left(image, self._prediction, self._distance, share * (restoration - self._mean))
            for image, restoration, share in zip(images, restorations, shares, strict=True)
        ]
