"""Gabor floor: a Gaussian over filter-bank features at each position; the Mahalanobis distance is the anomaly.

Legend: N images; S image side; P = grid * grid positions; d features of a position.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from stages.detectors.gabor.bank import features, filters
from stages.detectors.gabor.config import GaborConfig
from stages.detectors.shared.gaussian import Sums
from stages.detectors.shared.held_out import with_held_out
from stages.types import Fitted, Samples, ScoreMap, batches

if TYPE_CHECKING:
    from stages.training import Session

_BATCH = 16
_LEAST_VARIANCE = 1e-6
"""Of a feature in log units: keeps the covariance regular where all images are equal (or there is only one)."""


def needs(config: GaborConfig) -> frozenset[str]:
    """Pixels only."""
    return frozenset()


def fit(train: Samples, validation: Samples, config: GaborConfig, seed: int, session: Session) -> Fitted:
    """Mean and whitening matrix of each position over the normal images, in one pass. Nothing in it is random."""
    models = _fitted((train, validation), config, session.device)
    return with_held_out(models, validation, config, session.device, score)


def _fitted(parts: Sequence[Samples], config: GaborConfig, device: str) -> Iterator[Fitted]:
    """The model after each part."""
    sums = Sums()
    for part in parts:
        for found in _feature_batches(part, config, device):
            sums.add(found[:, None])  # (B, P, d) -> (B, 1, P, d)
        mean, covariance = sums.moments()
        width = covariance.shape[1]
        scale = np.maximum(np.trace(covariance, axis1=1, axis2=2), 0.0) / width
        covariance += (config.ridge * scale + _LEAST_VARIANCE)[:, None, None] * np.eye(width)
        whitening = np.linalg.inv(np.linalg.cholesky(covariance))
        arrays = {"mean": mean.astype(np.float32), "whitening": whitening.astype(np.float32)}
        yield Fitted(arrays=arrays, metrics={"images": sums.count})


def score(fitted: Fitted, samples: Samples, config: GaborConfig, device: str) -> Iterator[ScoreMap]:
    """Smoothed Mahalanobis map (grid, grid) and its maximum."""
    mean = fitted.arrays["mean"].astype(np.float64)
    whitening = fitted.arrays["whitening"].astype(np.float64)
    for found in _feature_batches(samples, config, device):
        for values in found:  # (P, d)
            white = np.einsum("pij,pj->pi", whitening, values - mean)
            distance = np.sqrt((white**2).sum(axis=1)).reshape(config.grid, config.grid)
            smooth = gaussian_filter(distance, config.smoothing).astype(np.float32)
            yield ScoreMap(smooth, float(smooth.max()))


def _feature_batches(samples: Samples, config: GaborConfig, device: str) -> Iterator[NDArray[np.float64]]:
    """(B, P, d) features of all images in order, read a few at a time and computed one by one."""
    bank = filters(config).to(device)
    for rows in batches(len(samples), _BATCH):
        # outside the generator's yield: it would leak into the caller
        with torch.inference_mode():
            grey = torch.from_numpy(np.asarray(samples.images[rows])).to(device).float().mean(dim=-1) / 255  # (B, S, S)
            found = torch.stack([features(image, bank, config) for image in grey]).cpu().numpy()
        yield found.astype(np.float64)
