"""Slow, independent versions of EAR's masks, in NumPy, one pixel and one neighbour at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def enlarged(plane: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Bilinear, pixel centres aligned, the nearest pixel beyond the outermost centres: (h, w) -> (side, side)."""
    height, width = plane.shape
    result = np.empty((side, side))
    for y, x in np.ndindex(side, side):
        v = min(max((y + 0.5) * height / side - 0.5, 0.0), height - 1.0)
        u = min(max((x + 0.5) * width / side - 0.5, 0.0), width - 1.0)
        top, left = min(int(v), height - 2), min(int(u), width - 2)
        p, q = v - top, u - left
        corner = plane[top : top + 2, left : left + 2]
        result[y, x] = np.array([1 - p, p]) @ corner @ np.array([1 - q, q])
    return result


def masks_around(saliency: NDArray[np.float64], side: int, count: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Lower a threshold on the enlarged saliency level by level and grow by half a patch, as the method is told.

    Returns:
        The last mask with fewer than `count` true pixels, and the first with at least as many.
    """
    fine = enlarged(saliency, side).round(5)
    radius = int(side / min(saliency.shape) / 2)
    before = np.zeros((side, side), dtype=bool)
    for level in sorted(set(fine.ravel()), reverse=True):
        mask = before.copy()
        for y, x in np.argwhere(fine == level):
            mask[max(y - radius, 0) : y + radius + 1, max(x - radius, 0) : x + radius + 1] = True
        if mask.sum() >= count:
            return before, mask
        before = mask
    raise ValueError("more pixels asked for than there are")


def distances(
    tokens: NDArray[np.float64], memory: NDArray[np.float64], owners: NDArray[np.int64], owner: int, neighbours: int
) -> NDArray[np.float64]:
    """(h, w, C) tokens, (M, C) memory -> (h, w) mean distance to the nearest."""
    centre, spread = memory.mean(0), memory.std(0)
    result = np.empty(tokens.shape[:2])
    for place in np.ndindex(result.shape):
        found = sorted(
            float(np.linalg.norm((tokens[place] - centre) / spread - (feature - centre) / spread))
            for feature, of in zip(memory, owners, strict=True)
            if of != owner
        )
        result[place] = np.mean(found[:neighbours])
    return result
