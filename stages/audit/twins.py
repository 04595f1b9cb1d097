"""Near-duplicates across splits: images of which another, hardly different one is on the other side of the split.

Two signs, either suffices: perceptual hashes of few different bits (the same picture, encoded or exposed anew), and
features that are far more alike than chance (the same part, moved or lit anew).

Features: tokens averaged over 2 x 2 parts of the image, their principal directions scaled to variance one, normed to
length one. So scaled, two unrelated images have a cosine of mean 0 and standard deviation 1 / sqrt(K), whatever the
parts look like, and one threshold in standard deviations serves every data set (measured in README.md).

Legend: N images; K directions; M, L numbers of images compared; C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from stages.audit.config import AuditConfig
from stages.types import Rows, batches

PARTS = 2
"""The image is described in PARTS x PARTS parts."""
FEWEST_DIRECTIONS = 16
"""With fewer, a cosine far from chance is nothing special, and hashes alone decide."""
_ROWS = 512


@dataclass(frozen=True)
class Looks:
    """What images look like."""

    signs: NDArray[np.float32]
    """(N, bits) -1 or 1: the perceptual hash."""
    directions: NDArray[np.float32] | None
    """(N, K) of length 1; None with too few images to tell."""


@dataclass(frozen=True)
class Twins:
    """For each of M images the closest near-duplicate among L others."""

    partner: NDArray[np.int64]
    """(M,) its place in 0..L-1; -1 where there is none."""
    count: NDArray[np.int64]
    """(M,) near-duplicates among the L."""
    bits: NDArray[np.int64]
    """(M,) different bits of the hashes of both."""
    similarity: NDArray[np.float64]
    """(M,) likeness of the features of both, in standard deviations above chance; NaN without features."""

    @property
    def found(self) -> NDArray[np.bool_]:
        """(M,) whether there is one."""
        return self.partner >= 0


def looks(hashes: Sequence[str], tokens: Rows, config: AuditConfig) -> Looks:
    """Of N images with hashes (hex digits of equal length) and tokens (N, h, w, C)."""
    signs = np.stack([_signs(one) for one in hashes])
    kept = min(config.directions, len(tokens) // 4)
    if kept < FEWEST_DIRECTIONS:
        return Looks(signs, None)
    return Looks(signs, _directions(_described(tokens), kept))


def _signs(text: str) -> NDArray[np.float32]:
    return 2 * np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8)).astype(np.float32) - 1


def _described(tokens: Rows) -> NDArray[np.float32]:
    """(N, PARTS * PARTS * C) means over parts of the grid."""
    n, h, w, c = tokens.shape
    rows, columns = (np.linspace(0, size, PARTS + 1).round().astype(int)[:-1] for size in (h, w))
    share = np.outer(np.diff([*rows, h]), np.diff([*columns, w]))[..., None]
    found = np.empty((n, PARTS * PARTS * c), np.float32)
    for part in batches(n, 64):
        sums = np.add.reduceat(np.add.reduceat(tokens[part].astype(np.float32), rows, 1), columns, 2)
        found[part] = (sums / share).reshape(len(sums), -1)
    return found


def _directions(described: NDArray[np.float32], kept: int) -> NDArray[np.float32]:
    """(N, K) unit vectors of K whitened principal directions."""
    from sklearn.decomposition import PCA

    with threadpool_limits(1):  # the number of threads would show in the last bits
        found = PCA(min(kept, described.shape[1]), whiten=True, svd_solver="randomized", random_state=0).fit_transform(
            described.astype(np.float64)
        )
    return (found / np.linalg.norm(found, axis=1, keepdims=True).clip(1e-12)).astype(np.float32)


def twins(looks: Looks, rows: NDArray[np.int64], others: NDArray[np.int64], config: AuditConfig) -> Twins:
    """The closest near-duplicate of each image of `rows` (M) among `others` (L), both places in 0..N-1."""
    m = len(rows)
    partner, count, bits = np.full(m, -1), np.zeros(m, np.int64), np.zeros(m, np.int64)
    similarity = np.full(m, np.nan)
    for part in batches(m if len(others) else 0, _ROWS):
        different, alike = _compare(looks, rows[part], others)
        near = different <= config.hash_bits
        if alike is not None:
            near |= alike >= config.similarity
        closeness = -different / looks.signs.shape[1] if alike is None else alike - different / looks.signs.shape[1]
        best = np.where(near, closeness, -np.inf).argmax(1)
        here = np.arange(len(best))
        count[part] = near.sum(1)
        partner[part] = np.where(near.any(1), best, -1)
        bits[part] = different[here, best]
        if alike is not None:
            similarity[part] = alike[here, best]
    return Twins(partner, count, bits, similarity)


def _compare(
    looks: Looks, rows: NDArray[np.int64], others: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """(M, L) different bits, and likeness of features in standard deviations above chance."""
    with threadpool_limits(1):
        width = looks.signs.shape[1]
        different = (width - looks.signs[rows] @ looks.signs[others].T) / 2
        if looks.directions is None:
            return different, None
        alike = looks.directions[rows] @ looks.directions[others].T
        return different, alike * np.float32(np.sqrt(looks.directions.shape[1]))
