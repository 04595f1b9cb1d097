"""PaDiM: a Gaussian over patch features at each position; the Mahalanobis distance is the anomaly.

Source: Defard et al., "PaDiM", ICPR Workshops 2021, sections 3.1 to 3.3.
Deviations: EfficientNet-Lite in place of ResNet, all channels in place of a random choice, and each position's
covariance is drawn to the pooled one, which a few hundred images of 176 channels need.

Legend: N images; B of them in a batch; P = h * w positions; C channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from stages.detectors.features import Kind, feature_batches, scored
from stages.detectors.padim.config import PadimConfig
from stages.types import Fitted, Samples, ScoreMap

if TYPE_CHECKING:
    from stages.training import Session


def needs(config: PadimConfig) -> frozenset[str]:
    """The kinds of features that are modelled."""
    return frozenset(config.kinds)


def fit(train: Samples, validation: Samples, config: PadimConfig, seed: int, session: Session) -> Fitted:
    """A Gaussian a position for each kind of features, in one pass over the images. Nothing in it is random.

    Memory: P * C * C doubles while a kind is fitted, 200 MB for 28 x 28 positions of 176 channels.
    """
    parts = [train] if config.fit_on == "train" else [train, validation]
    arrays: dict[str, NDArray[Any]] = {}
    grids: dict[str, list[int]] = {}
    for kind in config.kinds:
        gaussian, grids[kind] = _gaussian(parts, kind, config)
        for name, value in vars(gaussian).items():
            arrays[f"{kind}.{name}"] = value
    return Fitted(arrays, info={"grids": grids}, metrics={"images": sum(map(len, parts)), "grids": grids})


def score(fitted: Fitted, samples: Samples, config: PadimConfig, device: str) -> Iterator[ScoreMap]:
    """Smoothed Mahalanobis map (h, w) and its maximum; extras: the image score from each other kind of features."""
    gaussians = {kind: Gaussian(**_part(fitted, kind)).unpacked() for kind in config.kinds}
    yield from scored(
        samples,
        {kind: partial(_distance, gaussian, config.smoothing) for kind, gaussian in gaussians.items()},
    )


@dataclass(frozen=True)
class Gaussian:
    """Of standardised features, at each position."""

    mean: NDArray[np.float32]
    """(P, C), of features as they come."""
    spread: NDArray[np.float32]
    """(C,) standard deviation over all images and positions; 1 for a constant channel."""
    whitening: NDArray[np.float32]
    """(P, C * (C + 1) / 2) rows of the inverse Cholesky factor of the covariance of features / spread, from the
    diagonal to the left."""

    def unpacked(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean (P, C) and the matrices (P, C, C) that whiten features less the mean."""
        positions, channels = self.mean.shape
        whitening = np.zeros((positions, channels, channels), np.float32)
        whitening[:, *np.tril_indices(channels)] = self.whitening
        whitening /= self.spread
        return self.mean, whitening


def _gaussian(parts: Sequence[Samples], kind: Kind, config: PadimConfig) -> tuple[Gaussian, list[int]]:
    count, grid = 0, [0, 0]
    origin, total, products = np.zeros(0), np.zeros(0), np.zeros(0)
    for block in (block for part in parts for block in feature_batches(part, kind)):
        found = block.reshape(len(block), -1, block.shape[-1]).astype(np.float64)  # (B, h, w, C) -> (B, P, C)
        if count == 0:  # sums are taken about the first image, so that nothing cancels
            origin, grid = found[0], list(block.shape[1:3])
            total, products = np.zeros_like(origin), np.zeros((*origin.shape, origin.shape[1]))
        centred = (found - origin).transpose(1, 0, 2)  # (P, B, C)
        total += centred.sum(axis=1)
        products += centred.transpose(0, 2, 1) @ centred  # (P, C, C)
        count += len(found)
    shift = total / count
    products -= count * shift[:, :, None] * shift[:, None, :]
    products /= max(count - 1, 1)
    mean = origin + shift  # (P, C)
    variance = np.diagonal(products, axis1=1, axis2=2).mean(axis=0) + mean.var(axis=0)  # (C,)
    spread = np.where(variance > 0, np.sqrt(variance), 1.0)
    whitening = _whitening(products, spread, config)
    packed = whitening[:, *np.tril_indices(len(spread))]
    return Gaussian(mean.astype(np.float32), spread.astype(np.float32), packed.astype(np.float32)), grid


def _whitening(covariance: NDArray[np.float64], spread: NDArray[np.float64], config: PadimConfig) -> NDArray[Any]:
    """Inverse Cholesky factors (P, C, C) of the shrunk covariances of features / spread; `covariance` is changed."""
    covariance /= spread[:, None] * spread
    pooled = covariance.mean(axis=0) * config.shrinkage + config.ridge * np.eye(len(spread))
    covariance *= 1 - config.shrinkage
    covariance += pooled
    return np.linalg.inv(np.linalg.cholesky(covariance))


def _distance(
    gaussian: tuple[NDArray[np.float32], NDArray[np.float32]], smoothing: float, features: NDArray[np.float32]
) -> NDArray[np.float32]:
    """(h, w, C) -> (h, w)."""
    mean, whitening = gaussian
    height, width, channels = features.shape
    centred = features.reshape(-1, channels) - mean  # (P, C)
    white = np.matmul(whitening, centred[:, :, None])[:, :, 0]
    distance = np.sqrt(np.square(white, dtype=np.float64).sum(axis=1)).reshape(height, width)
    return gaussian_filter(distance, smoothing).astype(np.float32)


def _part(fitted: Fitted, kind: Kind) -> dict[str, NDArray[Any]]:
    return {
        name.removeprefix(f"{kind}."): value for name, value in fitted.arrays.items() if name.startswith(f"{kind}.")
    }
