"""A Gaussian over features at each position of a grid, and the Mahalanobis distance from it.

Source: Defard et al., "PaDiM", ICPR Workshops 2021, sections 3.1 to 3.3.
Deviation: each position's covariance is drawn to the pooled one, which a few hundred images of 176 channels need.

Legend: B images of a batch; P = h * w positions; C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.types import batches

_AT_ONCE = 64
"""Positions whose covariances are factorised at once."""
FLOOR = 0.1
"""Added, as a share of the mean over positions, to the squared distance that is normal at one."""


class Sums:
    """Mean and covariance of features at each position, of as many images as are added.

    P * C * C doubles are held, twice that while moments are taken.
    """

    def __init__(self) -> None:
        self.count = 0
        """Images so far."""
        self._shape: tuple[int, ...] = (0, 0, 0)
        self._origin, self._total, self._products = np.zeros((0, 0)), np.zeros((0, 0)), np.zeros((0, 0, 0))

    def add(self, block: NDArray[np.floating]) -> None:
        """(B, h, w, C) features of some images."""
        found = block.reshape(len(block), -1, block.shape[-1]).astype(np.float64)  # (B, h, w, C) -> (B, P, C)
        if self.count == 0:  # sums are taken about the first image, so that nothing cancels
            self._origin, self._shape = found[0], block.shape[1:]
            self._total = np.zeros_like(self._origin)
            self._products = np.zeros((*self._origin.shape, self._origin.shape[1]))
        centred = (found - self._origin).transpose(1, 0, 2)  # (P, B, C)
        self._total += centred.sum(axis=1)
        self._products += centred.transpose(0, 2, 1) @ centred  # (P, C, C)
        self.count += len(found)

    def moments(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(P, C) mean and (P, C, C) covariance; of one image, zeros."""
        shift = self._total / self.count
        covariance = self.count * shift[:, :, None] * shift[:, None, :]
        np.subtract(self._products, covariance, out=covariance)  # not a third array: they are large
        covariance /= max(self.count - 1, 1)
        return self._origin + shift, covariance

    def gaussian(self, shrinkage: float, ridge: float, normalised: bool = False) -> Gaussian:
        """Of the features in channels of unit variance.

        Args:
            shrinkage: share of the covariance pooled over all positions in that of each.
            ridge: added to the diagonal; channels have unit variance.
            normalised: divide what whitens a position's features by the distance that a normal image has there
                (`_normal_distance`), so that a position where these vary much is not where most alarms are.
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
    """(P,) root mean square of the distance of a normal image that the Gaussian has not seen, over its mean.

    Args:
        squares: (P,) trace of (covariance in use)^-1 (covariance of the images) at each position: mean squared distance
            of the images themselves. Without one of them, by the Sherman-Morrison formula and with the mean in place of
            each, it is larger by 1 / (1 - (1 - shrinkage) * squares / count), as in generalised cross-validation
            (Golub, Heath and Wahba, Technometrics 1979).
        count: images.
    """
    unseen = squares / (1 - (1 - shrinkage) * squares / count)
    mean = unseen.mean()
    if mean <= 0:  # a single image, or equal ones
        return np.ones(len(squares), np.float32)
    # where nothing varies, anything would be an alarm
    return np.sqrt((unseen / mean + FLOOR) / (1 + FLOOR)).astype(np.float32)


@dataclass(frozen=True)
class Gaussian:
    """Of standardised features, at each position."""

    mean: NDArray[np.float32]
    """(h, w, C), of features as they come."""
    spread: NDArray[np.float32]
    """(C,) standard deviation over all images and positions; 1 for a constant channel."""
    whitening: NDArray[np.float32]
    """(P, C * (C + 1) / 2) rows of the inverse Cholesky factor of the covariance of features / spread, from the
    diagonal to the left."""

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]], prefix: str) -> Gaussian:
        """What `named` gave."""
        return cls(*(np.asarray(arrays[prefix + name]) for name in ("mean", "spread", "whitening")))

    def named(self, prefix: str) -> dict[str, NDArray[Any]]:
        """As arrays of a fitted model."""
        return {prefix + name: value for name, value in vars(self).items()}

    def matrices(self) -> NDArray[np.float32]:
        """(P, C, C) that whiten features less the mean."""
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
