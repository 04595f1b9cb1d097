"""A slow, independent version of EAR's mosaic, one pixel at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def mosaic(image: NDArray[np.float64], scale: int) -> NDArray[np.float64]:
    """(C, H, W): each pixel becomes the mean of the cell that it lies in."""
    result = np.empty_like(image)
    for c, y, x in np.ndindex(image.shape):
        top, left = y - y % scale, x - x % scale
        result[c, y, x] = image[c, top : top + scale, left : left + scale].mean()
    return result
