"""The highest values of a map, of which an image score is made."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def top_count(expected: float) -> int:
    """Number of pixels for a share of all pixels: `expected`, share times all, rounded, at least 1."""
    return max(1, round(expected))


def top_mean(plane: NDArray[np.float32], share: float) -> float:
    """Mean of this share of the plane's highest values; with 0 the highest alone."""
    count = top_count(share * plane.size)
    return float(np.sort(plane, axis=None)[-count:].mean(dtype=np.float64))
