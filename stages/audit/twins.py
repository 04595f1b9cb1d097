"""Near-duplicates across splits: pairs of almost identical images, one on each side of the split.

Two images are near-duplicates by either of two criteria: their perceptual hashes differ in a few bits and what is fine
in them agrees (the same picture, encoded or exposed differently), or their features are far more similar than by chance
(the same part, moved or lit differently).

Features are tokens averaged over 2 x 2 parts of the image, projected to principal directions of variance one, and
scaled to length one. The cosine of two unrelated images then has mean 0 and standard deviation 1 / sqrt(K) whatever the
parts look like, so that one threshold in standard deviations is right for every data set (measured in README.md).

Legend: N images; K directions; M, L numbers of images compared; C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from stages.audit.config import AuditConfig
from stages.audit.pooling import pool_tokens
from stages.audit.same_picture import detail, excess, likeness
from stages.types import Rows, batches

PARTS = 2
"""Features are averaged over PARTS x PARTS parts of the image."""
FEWEST_DIRECTIONS = 16
"""With fewer directions a cosine far from 0 is common among unrelated images, and only hashes are compared."""
_ROWS = 512
"""Images compared with all others at a time."""
CHECKED = 8
"""Of the images whose hash is similar to that of an image, so many are held against it: those with the most similar
hashes. More would cost a second an image where all images have similar hashes."""
_KEPT = 512
"""Details kept in memory, of 256 kB each."""
_REFERENCES = 8
"""Images, evenly spread, whose median likeness to an image is the typical one."""


@dataclass(frozen=True)
class Looks:
    """Perceptual hashes and features of N images."""

    signs: NDArray[np.float32]
    """(N, bits) the bits of the perceptual hash as -1 or 1."""
    directions: NDArray[np.float32] | None
    """(N, K) features of length 1; None if there are too few images for them."""
    images: Rows
    """(N, S, S, 3) uint8, RGB, at the side of `stages.audit.same_picture`."""


@dataclass(frozen=True)
class Twins:
    """The closest near-duplicate of each of M images among L other images."""

    partner: NDArray[np.int64]
    """(M,) index of the near-duplicate, 0..L-1; -1 if the image has none."""
    count: NDArray[np.int64]
    """(M,) number of near-duplicates among the L images."""
    bits: NDArray[np.int64]
    """(M,) number of bits in which the hashes of image and partner differ."""
    similarity: NDArray[np.float64]
    """(M,) similarity of the features of image and partner, in standard deviations above chance; NaN without
    features."""

    @property
    def has_partner(self) -> NDArray[np.bool_]:
        """(M,) whether the image has a near-duplicate."""
        return self.partner >= 0


def looks(hashes: Sequence[str], tokens: Rows, images: Rows, config: AuditConfig) -> Looks:
    """Compute hashes and features of N images.

    Args:
        hashes: N perceptual hashes, hex digits of equal length.
        tokens: (N, h, w, C).
        images: (N, S, S, 3) uint8, RGB; only those of similar hash are read.
    """
    signs = np.stack([_signs(text) for text in hashes])
    count = min(config.directions, len(tokens) // 4)
    if count < FEWEST_DIRECTIONS:
        return Looks(signs, None, images)
    return Looks(signs, _directions(pool_tokens(tokens, PARTS).reshape(len(tokens), -1), count), images)


def _signs(text: str) -> NDArray[np.float32]:
    return 2 * np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8)).astype(np.float32) - 1


def _directions(features: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """(N, K): features in `count` whitened principal directions, scaled to length 1."""
    from sklearn.decomposition import PCA

    with threadpool_limits(1):  # the last bits depend on the number of threads
        projected = PCA(
            min(count, features.shape[1]), whiten=True, svd_solver="randomized", random_state=0
        ).fit_transform(features.astype(np.float64))
    return (projected / np.linalg.norm(projected, axis=1, keepdims=True).clip(1e-12)).astype(np.float32)


def twins(looks: Looks, rows: NDArray[np.int64], candidates: NDArray[np.int64], config: AuditConfig) -> Twins:
    """Find the closest near-duplicate of each image.

    Args:
        rows: (M,) indices of the images, 0..N-1.
        candidates: (L,) indices of the images among which near-duplicates are searched.
    """
    m = len(rows)
    partner, count, bits = np.full(m, -1), np.zeros(m, np.int64), np.zeros(m, np.int64)
    similarity = np.full(m, np.nan)
    details = _Details(looks.images)
    for part in batches(m if len(candidates) else 0, _ROWS):
        different, similar = _compare(looks, rows[part], candidates)
        near = np.zeros(different.shape, bool) if similar is None else similar >= config.similarity
        for i in np.flatnonzero(((different <= config.hash_bits) & ~near).any(1)):
            alike = np.flatnonzero((different[i] <= config.hash_bits) & ~near[i])
            for j in alike[np.argsort(different[i, alike], kind="stable")][:CHECKED]:
                near[i, j] = details.excess(int(rows[part][i]), int(candidates[j])) >= config.same_picture
        closeness = -different / looks.signs.shape[1] if similar is None else similar - different / looks.signs.shape[1]
        best = np.where(near, closeness, -np.inf).argmax(1)
        images = np.arange(len(best))
        count[part] = near.sum(1)
        partner[part] = np.where(near.any(1), best, -1)
        bits[part] = different[images, best]
        if similar is not None:
            similarity[part] = similar[images, best]
    return Twins(partner, count, bits, similarity)


class _Details:
    """What is fine in each image, computed when it is asked for."""

    def __init__(self, images: Rows) -> None:
        self._images, self._kept, self._typical = images, dict[int, NDArray[np.float32]](), dict[int, float]()
        self._references = dict.fromkeys(np.linspace(0, len(images) - 1, _REFERENCES).astype(int).tolist())

    def excess(self, row: int, other: int) -> float:
        """`stages.audit.same_picture.excess` of two images, given by their rows."""
        if row not in self._typical:
            others = [reference for reference in self._references if reference != row]
            values = [likeness(self._detail(row), self._detail(reference)) for reference in others]
            self._typical[row] = float(np.median(values)) if values else 0.0
        return excess(likeness(self._detail(row), self._detail(other)), self._typical[row])

    def _detail(self, row: int) -> NDArray[np.float32]:
        if row not in self._kept:
            if len(self._kept) == _KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[row] = detail(self._images[row])
        return self._kept[row]


def _compare(
    looks: Looks, rows: NDArray[np.int64], candidates: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """(M, L) numbers of different bits, and (M, L) similarities of features in standard deviations above chance."""
    with threadpool_limits(1):
        width = looks.signs.shape[1]
        different = (width - looks.signs[rows] @ looks.signs[candidates].T) / 2
        if looks.directions is None:
            return different, None
        cosines = looks.directions[rows] @ looks.directions[candidates].T
        return different, cosines * np.float32(np.sqrt(looks.directions.shape[1]))
