"""Gabor baseline: a Gaussian over filter-bank features at each position; the map is the Mahalanobis distance from it.

Legend: N images; S image side; P = grid * grid positions; d features of a position.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from stages.detectors.gabor.bank import features, filters
from stages.detectors.gabor.config import GaborConfig
from stages.detectors.shared.gaussian import Sums
from stages.detectors.shared.held_out import fit_with_validation_results
from stages.types import Fitted, Samples, ScoreMap, batches

if TYPE_CHECKING:
    from stages.training import Session

_BATCH = 16
_MINIMUM_VARIANCE = 1e-6
"""Added to the variance of each feature (in log units). It keeps the covariance regular if all images are identical, or
there is only one."""


def needs(config: GaborConfig) -> frozenset[str]:
    """Pixels only."""
    return frozenset()


def fit(train: Samples, validation: Samples, config: GaborConfig, seed: int, session: Session) -> Fitted:
    """Compute mean and whitening matrix of each position, in one pass over the images. Nothing is random."""

    def fit_on_training() -> tuple[Fitted, Sums]:
        sums = Sums()
        return _extend(sums, train, config, session.device), sums

    def extend(sums: Sums) -> Fitted:
        return _extend(sums, validation, config, session.device)

    return fit_with_validation_results(fit_on_training, extend, validation, config, session.device, score)


def _extend(sums: Sums, samples: Samples, config: GaborConfig, device: str) -> Fitted:
    """Add images to the sums; the model of all images added so far."""
    for block in _feature_batches(samples, config, device):
        sums.add(block[:, None])  # (B, P, d) -> (B, 1, P, d)
    mean, covariance = sums.moments()
    width = covariance.shape[1]
    scale = np.maximum(np.trace(covariance, axis1=1, axis2=2), 0.0) / width
    covariance += (config.ridge * scale + _MINIMUM_VARIANCE)[:, None, None] * np.eye(width)
    whitening = np.linalg.inv(np.linalg.cholesky(covariance))
    arrays = {"mean": mean.astype(np.float32), "whitening": whitening.astype(np.float32)}
    return Fitted(arrays=arrays, metrics={"images": sums.count})


def score(fitted: Fitted, samples: Samples, config: GaborConfig, device: str) -> Iterator[ScoreMap]:
    """Yield the smoothed Mahalanobis map (grid, grid) and its maximum as image score."""
    mean = fitted.arrays["mean"].astype(np.float64)
    whitening = fitted.arrays["whitening"].astype(np.float64)
    for block in _feature_batches(samples, config, device):
        for values in block:  # (P, d)
            white = np.einsum("pij,pj->pi", whitening, values - mean)
            distance = np.sqrt((white**2).sum(axis=1)).reshape(config.grid, config.grid)
            smooth = gaussian_filter(distance, config.smoothing).astype(np.float32)
            yield ScoreMap(smooth, float(smooth.max()))


def _feature_batches(samples: Samples, config: GaborConfig, device: str) -> Iterator[NDArray[np.float64]]:
    """Yield the features (B, P, d) of all images in order. Images are read in batches and computed one by one."""
    bank = filters(config).to(device)
    for rows in batches(len(samples), _BATCH):
        # The context must not span the yield: it would hold in the caller too.
        with torch.inference_mode():
            grey = torch.from_numpy(np.asarray(samples.images[rows])).to(device).float().mean(dim=-1) / 255  # (B, S, S)
            block = torch.stack([features(image, bank, config) for image in grey]).cpu().numpy()
        yield block.astype(np.float64)
