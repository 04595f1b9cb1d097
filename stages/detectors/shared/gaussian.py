"""A Gaussian over features at each position of a grid, and the Mahalanobis distance from it.

Source: Defard et al., "PaDiM", ICPR Workshops 2021, sections 3.1 to 3.3.
Deviation: each position's covariance is shrunk toward the pooled covariance: a few hundred images are too few for 176
channels.

Legend: B images of a batch; P = h * w positions; C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.types import batches

MINIMUM_SHARE = 0.1
"""Added to the normal squared distance of each position, as a share of its mean over positions."""
_AT_ONCE = 64
"""Positions whose covariances are factorised at once."""


class Sums:
    """Sums for mean and covariance of features at each position, over all images that are added.

    Memory: P * C * C doubles, twice that while moments are computed.
    """

    def __init__(self) -> None:
        self.count = 0
        """Images added so far."""
        self._shape: tuple[int, ...] = (0, 0, 0)
        self._origin, self._total, self._products = np.zeros((0, 0)), np.zeros((0, 0)), np.zeros((0, 0, 0))

    def add(self, block: NDArray[np.floating]) -> None:
        """Add the features (B, h, w, C) of some images."""
        features = block.reshape(len(block), -1, block.shape[-1]).astype(np.float64)  # (B, h, w, C) -> (B, P, C)
        if self.count == 0:  # sums are taken about the first image, to avoid cancellation
            self._origin, self._shape = features[0], block.shape[1:]
            self._total = np.zeros_like(self._origin)
            self._products = np.zeros((*self._origin.shape, self._origin.shape[1]))
        centred = (features - self._origin).transpose(1, 0, 2)  # (P, B, C)
        self._total += centred.sum(axis=1)
        self._products += centred.transpose(0, 2, 1) @ centred  # (P, C, C)
        self.count += len(features)

    def moments(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(P, C) mean and (P, C, C) covariance; with a single image the covariance is zero."""
        shift = self._total / self.count
        covariance = self.count * shift[:, :, None] * shift[:, None, :]
        np.subtract(self._products, covariance, out=covariance)  # in place: the arrays are large
        covariance /= max(self.count - 1, 1)
        return self._origin + shift, covariance

    def gaussian(self, shrinkage: float, ridge: float, normalised: bool = False) -> Gaussian:
        """The Gaussian of the features, in channels scaled to unit variance.

        Args:
            shrinkage: share of the pooled covariance, the mean over all positions, in the covariance of each position.
            ridge: added to the diagonal; channels have unit variance.
            normalised: divide the distance at each position by its normal value there (`_normal_distance`), so that
                positions where good images vary much do not raise most alarms.
        """
        mean, covariance = self.moments()
        variance = np.diagonal(covariance, axis1=1, axis2=2).mean(axis=0) + mean.var(axis=0)  # (C,)
        spread = np.where(variance > 0, np.sqrt(variance), 1.0)
        covariance /= spread[:, None] * spread
        pooled = covariance.mean(axis=0) * shrinkage + ridge * np.eye(len(spread))
        lower, packed, squares = np.tril_indices(len(spread)), [], []
        for rows in batches(len(covariance), _AT_ONCE):
            own = covariance[rows]
            factors = np.linalg.inv(np.linalg.cholesky(own * (1 - shrinkage) + pooled))
            packed.append(factors[:, *lower].astype(np.float32))
            if normalised:
                squares.append(((factors @ own) * factors).sum(axis=(1, 2)))
        whitening = np.concatenate(packed)
        if normalised:
            whitening /= _normal_distance(np.concatenate(squares), self.count, shrinkage)[:, None]
        return Gaussian(mean.reshape(self._shape).astype(np.float32), spread.astype(np.float32), whitening)


def _normal_distance(squares: NDArray[np.float64], count: int, shrinkage: float) -> NDArray[np.float32]:
    """(P,) root mean square distance of a good image that the Gaussian was not fitted to, relative to all positions.

    The mean squared distance of an image that is left out of the fit is larger than that of the fitted images, by the
    Sherman-Morrison formula by the factor 1 / (1 - (1 - shrinkage) * squares / count), if the mean over images stands
    for each image, as in generalised cross-validation (Golub, Heath and Wahba, Technometrics 1979).

    Args:
        squares: (P,) mean squared distance of the fitted images at each position: the trace of
            (shrunk covariance)^-1 (covariance of the images).
        count: number of images.
    """
    unseen = squares / (1 - (1 - shrinkage) * squares / count)
    mean = unseen.mean()
    if mean <= 0:  # a single image, or identical images
        return np.ones(len(squares), np.float32)
    # without the minimum, any change would raise an alarm at a position where good images do not vary
    return np.sqrt((unseen / mean + MINIMUM_SHARE) / (1 + MINIMUM_SHARE)).astype(np.float32)


@dataclass(frozen=True)
class Gaussian:
    """A Gaussian over standardised features at each position."""

    mean: NDArray[np.float32]
    """(h, w, C) mean of the features before they are standardised."""
    spread: NDArray[np.float32]
    """(C,) standard deviation of each channel over all images and positions; 1 for a constant channel."""
    whitening: NDArray[np.float32]
    """(P, C * (C + 1) / 2) rows of the inverse Cholesky factor of the covariance of features / spread, from the
    diagonal to the left."""

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], prefix: str) -> Gaussian:
        """The Gaussian that `to_arrays` saved with this prefix."""
        return cls(*(np.asarray(arrays[prefix + name]) for name in ("mean", "spread", "whitening")))

    def to_arrays(self, prefix: str) -> dict[str, NDArray[Any]]:
        """The Gaussian as arrays of a fitted model, whose names start with `prefix`."""
        return {prefix + name: value for name, value in vars(self).items()}

    def matrices(self) -> NDArray[np.float32]:
        """(P, C, C): the matrices that whiten the features minus their mean."""
        channels = len(self.spread)
        whitening = np.zeros((len(self.whitening), channels, channels), np.float32)
        whitening[:, *np.tril_indices(channels)] = self.whitening
        whitening /= self.spread
        return whitening


class Distance:
    """Mahalanobis distances from a Gaussian."""

    def __init__(self, gaussian: Gaussian) -> None:
        self._mean, self._matrices = gaussian.mean, gaussian.matrices()

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """(h, w, C) -> (h, w)."""
        height, width, channels = features.shape
        centred = (features - self._mean).reshape(-1, channels)  # (P, C)
        white = np.matmul(self._matrices, centred[:, :, None])[:, :, 0]
        squares = np.square(white, dtype=np.float64).sum(axis=1)
        return np.sqrt(squares).reshape(height, width).astype(np.float32)
