"""Image against restoration in the features of an ImageNet CNN.

The map shows how unlikely the image's features are, given those around them and those of the restoration. A detector's
network sees, and restores, the image reduced to S pixels. The features are those of the whole image and of the
restoration enlarged to the image's side. A linear map, the same at all positions, predicts a cell's features from those
of its neighbours and of the restoration, as far as the network restored the cell without having seen it
(`stages.detectors.shared.surroundings`). At each position a Gaussian is fitted to the residuals of good images; the
map is the distance from it, divided by the distance that is normal at the position
(`stages.detectors.shared.gaussian`).

Sources: features instead of pixels: Johnson et al., "Perceptual losses", ECCV 2016; the rest is ours.

Legend: N images; B of them in a batch; S side that the network sees; T side of the images; h, w grid of features; C
channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from stages.detectors.interface import CompareConfig
from stages.detectors.shared import surroundings
from stages.detectors.shared.gaussian import Distance, Gaussian, Sums
from stages.detectors.shared.resizing import Images, cell_shares, enlarge_images
from stages.types import Extract, Rows, ScoreMap, UserError, batches

BATCH = 8
"""Images whose features, and those of their restorations, are computed at once."""
SHRINKAGE, RIDGE, SMOOTHING = 0.5, 1e-3, 1.0
"""As PaDiM's defaults (`stages.detectors.padim.config`)."""


@dataclass(frozen=True)
class Restored:
    """Images and their restorations."""

    images: Images
    """(B, T, T, 3)."""
    restorations: Images
    """(B, S, S, 3)."""
    unseen: NDArray[Any] | None = None
    """(B, S, S) 1 where the network restored a pixel without having seen it, else 0. None: 1 everywhere."""


class ComparisonFitter:
    """Fits the arrays of `Comparison` to good images."""

    def __init__(self, extract: Extract | None, config: CompareConfig) -> None:
        """
        Raises:
            UserError: `extract` is None, the images come without ImageNet features.
        """
        self._features, self._config = _Features(extract, config), config
        self._prediction: dict[str, NDArray[Any]] = {}
        self._sums = Sums()

    def add(self, images: Rows, restorations: Images, unseen: NDArray[Any] | None = None) -> None:
        """Add images (N, T, T, 3). The prediction is fitted to the images of the first call only.

        Args:
            restorations: (N, S, S, 3).
            unseen: (N, S, S) as in `Restored`.
        """

        def restored(rows: slice | NDArray[np.int64]) -> Restored:
            return Restored(images[rows], restorations[rows], None if unseen is None else unseen[rows])

        if not self._prediction:
            self._prediction = self._fit_prediction(restored, surroundings.evenly_spaced(len(restorations)))
        residuals = _ResidualFeatures(self._prediction, self._config)
        for rows in batches(len(restorations), BATCH):
            self._sums.add(np.stack(residuals(*self._features(restored(rows)))))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays of `Comparison`, fitted to all images added so far."""
        return self._prediction | self._sums.gaussian(SHRINKAGE, RIDGE, normalised=True).to_arrays("compare.")

    def _fit_prediction(
        self, restored: Callable[[NDArray[np.int64]], Restored], chosen: NDArray[np.int64]
    ) -> dict[str, NDArray[Any]]:
        read = [self._features(restored(chosen[rows])) for rows in batches(len(chosen), BATCH)]
        images, restorations, shares = (np.concatenate(part) for part in zip(*read, strict=True))
        mean = restorations.mean(axis=0)
        weights = surroundings.fit(images, self._config.surroundings, shares * (restorations - mean))
        return {"compare.prediction": weights, "compare.restored": mean}


class Comparison:
    """Compares images with their restorations, with arrays from `ComparisonFitter`."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]], extract: Extract | None, config: CompareConfig) -> None:
        self._features, self._residuals = _Features(extract, config), _ResidualFeatures(arrays, config)
        self._distance = Distance(Gaussian.from_arrays(arrays, "compare."))

    def maps(self, restored: Restored) -> list[NDArray[np.float32]]:
        """The smoothed map (h, w) of each of up to `BATCH` images."""
        residuals = self._residuals(*self._features(restored))
        return [gaussian_filter(self._distance(features), SMOOTHING) for features in residuals]

    def score(
        self, images: Images, by_pixels: Sequence[ScoreMap], unseen: NDArray[Any] | None = None
    ) -> Iterator[ScoreMap]:
        """Replace map and image score of up to `BATCH` results by those of this comparison.

        The image score is the maximum of the map.

        Args:
            by_pixels: results of a comparison by pixels, with the picture `restoration`.
            unseen: (B, S, S) as in `Restored`.
        """
        restorations = np.stack([result.pictures["restoration"] for result in by_pixels])
        for result, plane in zip(by_pixels, self.maps(Restored(images, restorations, unseen)), strict=True):
            yield replace(result, anomaly_map=plane, image_score=float(plane.max()))


class _Features:
    """Computes the features of images and of their restorations, (B, h, w, C) each, and the share of each cell,
    (B, h, w, 1), that was restored unseen."""

    def __init__(self, extract: Extract | None, config: CompareConfig) -> None:
        if extract is None:
            raise UserError("compare: features needs the features of an ImageNet CNN, but the images come without them")
        self._extract, self._side = extract, config.compare_side

    def __call__(self, restored: Restored) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        features = self._extract(np.concatenate([restored.images, enlarge_images(restored.restorations, self._side)]))
        images, restorations = np.split(features, 2)
        if restored.unseen is None:
            return images, restorations, np.ones_like(images[..., :1])
        rows, columns = (cell_shares(restored.unseen.shape[1], cells) for cells in images.shape[1:3])
        shares = np.stack([rows @ pixels.astype(np.float32) @ columns.T for pixels in restored.unseen])
        return images, restorations, shares[..., None]


class _ResidualFeatures:
    """Subtracts from features their prediction by neighbours and restoration."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]], config: CompareConfig) -> None:
        self._weights, self._mean = arrays["compare.prediction"], arrays["compare.restored"]
        self._distance = config.surroundings

    def __call__(
        self, images: NDArray[np.float32], restorations: NDArray[np.float32], shares: NDArray[np.float32]
    ) -> list[NDArray[np.float32]]:
        # One image at a time: a product of more rows may sum in another order.
        return [
            surroundings.residual(image, self._weights, self._distance, share * (restoration - self._mean))
            for image, restoration, share in zip(images, restorations, shares, strict=True)
        ]
