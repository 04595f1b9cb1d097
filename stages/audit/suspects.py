"""Suspects: good training and validation images that look like defects, for a person to check.

Each image is scored by a model that was fitted without the image's group. The model is a Gaussian at each position over
the tokens of the other groups' images. The score is the largest Mahalanobis distance (Defard et al., PaDiM, ICPR 2021,
section III-B, with a random choice of channels). Deviations: the covariance is half that of the position, half the mean
over all positions, so that a few images are enough; a fifth of the groups is left out at a time.

Legend: N images; h, w grid; P = h * w positions; C channels; d chosen channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular
from threadpoolctl import threadpool_limits

from stages.audit.config import AuditConfig
from stages.audit.pooling import pool_tokens
from stages.types import Rows, UserError

FOLDS = 5
"""Parts of the groups that are left out in turn."""
GRID = 14
"""Largest number of positions per side. Finer grids are averaged."""
RIDGE = 1e-3
"""Added to the variance of each channel, which is 1 on average."""


@dataclass(frozen=True)
class Suspicion:
    """How unlike the other good images each of N good images is."""

    maps: NDArray[np.float32]
    """(N, h, w) Mahalanobis distances."""
    scores: NDArray[np.float64]
    """(N,) the maximum of each map."""
    deviation: NDArray[np.float64]
    """(N,) robust standard deviations of the logarithm of the score above its median."""


def suspicion(tokens: Rows, groups: Sequence[str], config: AuditConfig, seed: int) -> Suspicion | None:
    """Score N good images by models that were fitted without their groups; None with fewer than two groups.

    Args:
        tokens: (N, h, w, C).
        groups: N names, the group of each image.
        seed: seed of the choice of channels.

    Raises:
        UserError: the numbers of images and groups differ.
    """
    from sklearn.model_selection import GroupKFold

    if len(tokens) != len(groups):
        raise UserError(f"audit: {len(tokens)} images, but {len(groups)} groups")
    names = sorted(set(groups))
    if len(names) < 2:
        return None
    values = _standardised(tokens, config.channels, seed)
    n, h, w, _ = values.shape
    flat = values.reshape(n, h * w, -1).transpose(1, 0, 2)  # (P, N, d)
    distance = np.empty((h * w, n), np.float32)
    with threadpool_limits(1):
        for seen, left_out in GroupKFold(min(FOLDS, len(names))).split(flat[0], groups=list(groups)):
            _score(flat, seen, left_out, distance)
    maps = distance.T.reshape(n, h, w)
    scores = maps.reshape(n, -1).max(1).astype(np.float64)
    return Suspicion(maps, scores, _deviation(np.log(scores.clip(1e-12))))


def _standardised(tokens: Rows, channels: int, seed: int) -> NDArray[np.float32]:
    """(N, h', w', d): randomly chosen channels, standardised, on a grid of at most GRID x GRID."""
    chosen = np.sort(np.random.default_rng(seed).permutation(tokens.shape[-1])[:channels])
    values = pool_tokens(tokens, GRID, chosen)
    values -= values.mean((0, 1, 2))
    return values / values.std((0, 1, 2)).clip(1e-6)


def _score(
    flat: NDArray[np.float32], seen: NDArray[np.int64], left_out: NDArray[np.int64], distance: NDArray[np.float32]
) -> None:
    """Fill the columns `left_out` of `distance` (P, N) with distances from Gaussians of the columns `seen`.

    Args:
        flat: (P, N, d) tokens.
        seen, left_out: indices of images.
    """
    positions, _, d = flat.shape
    own = np.empty((positions, d, d), np.float32)
    for p in range(positions):
        centred = flat[p, seen] - flat[p, seen].mean(0)
        own[p] = centred.T @ centred / len(seen)
    pooled = own.mean(0) + 2 * RIDGE * np.eye(d, dtype=np.float32)
    for p in range(positions):
        root = np.linalg.cholesky((own[p] + pooled) / 2)
        offset = flat[p, left_out] - flat[p, seen].mean(0)
        distance[p, left_out] = np.sqrt(np.square(solve_triangular(root, offset.T, lower=True)).sum(0))


def _deviation(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Difference from the median in units of 1.4826 * MAD, which is the standard deviation of a Gaussian."""
    offset = values - np.median(values)
    spread = 1.4826 * float(np.median(np.abs(offset)))
    return offset / max(spread, 1e-12)
