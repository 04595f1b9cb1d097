"""Good images to learn from that look like defects: the first that someone should look at again.

Each image is scored by a model that has not seen its group: at every position a Gaussian of the tokens of the other
groups' images, and of that the largest Mahalanobis distance (Defard et al., PaDiM, ICPR 2021, section III-B: some
channels drawn at random). Deviations: the covariance is half the position's own, half the mean of all positions', so
that few images suffice; of the groups, a fifth is left out at a time.

Legend: N images; h, w grid; P = h * w positions; d channels drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular
from threadpoolctl import threadpool_limits

from stages.audit.config import AuditConfig
from stages.types import Rows, UserError, batches

PARTS = 5
"""Parts of the groups that are left out in turn."""
GRID = 14
"""Finer grids are averaged down to at most so many positions a side."""
RIDGE = 1e-3
"""Added to the variance of each channel, which is one on average."""


@dataclass(frozen=True)
class Suspicion:
    """How strange each of N good images is to the others."""

    maps: NDArray[np.float32]
    """(N, h, w) Mahalanobis distances."""
    scores: NDArray[np.float64]
    """(N,) the largest of each map."""
    deviation: NDArray[np.float64]
    """(N,) robust standard deviations above the median, of the logarithm."""


def suspicion(tokens: Rows, groups: Sequence[str], config: AuditConfig, seed: int) -> Suspicion | None:
    """Of N good images with tokens (N, h, w, C); None with fewer than two groups.

    Args:
        groups: of each image; it is never scored by a model that saw its group.
        seed: of the channels drawn.
    """
    from sklearn.model_selection import GroupKFold

    if len(tokens) != len(groups):
        raise UserError(f"audit: {len(tokens)} images, but {len(groups)} groups")
    names = sorted(set(groups))
    if len(names) < 2:
        return None
    values = _chosen(tokens, config.channels, seed)
    n, h, w, _ = values.shape
    flat = values.reshape(n, h * w, -1).transpose(1, 0, 2)  # (P, N, d)
    distance = np.empty((h * w, n), np.float32)
    with threadpool_limits(1):
        for seen, left_out in GroupKFold(min(PARTS, len(names))).split(flat[0], groups=list(groups)):
            _score(flat, seen, left_out, distance)
    maps = distance.T.reshape(n, h, w)
    scores = maps.reshape(n, -1).max(1).astype(np.float64)
    return Suspicion(maps, scores, _deviation(np.log(scores.clip(1e-12))))


def _chosen(tokens: Rows, channels: int, seed: int) -> NDArray[np.float32]:
    """(N, h', w', d): drawn channels, standardised, on a grid of at most GRID x GRID."""
    n, h, w, c = tokens.shape
    drawn = np.sort(np.random.default_rng(seed).permutation(c)[:channels])
    rows, columns = (np.linspace(0, size, min(size, GRID) + 1).round().astype(int)[:-1] for size in (h, w))
    share = np.outer(np.diff([*rows, h]), np.diff([*columns, w]))[..., None]
    found = np.empty((n, len(rows), len(columns), len(drawn)), np.float32)
    for part in batches(n, 64):
        read = tokens[part].astype(np.float32)[..., drawn]
        found[part] = np.add.reduceat(np.add.reduceat(read, rows, 1), columns, 2) / share
    found -= found.mean((0, 1, 2))
    return found / found.std((0, 1, 2)).clip(1e-6)


def _score(
    flat: NDArray[np.float32], seen: NDArray[np.int64], left_out: NDArray[np.int64], distance: NDArray[np.float32]
) -> None:
    """Fill the columns `left_out` of `distance` (P, N) from Gaussians of the images `seen` of `flat` (P, N, d)."""
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
    """Distance from the median in units of 1.4826 * MAD, the standard deviation of a Gaussian."""
    offset = values - np.median(values)
    spread = 1.4826 * float(np.median(np.abs(offset)))
    return offset / max(spread, 1e-12)
