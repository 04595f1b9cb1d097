"""Slow, independent versions of InTra's windows: loops over positions, in the paper's 1-based indices."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def centred_corner(t: int, grid: int, window: int) -> int:
    """First row of the window for row t, both 1-based: start in the middle, then move inside step by step."""
    r = t
    for _ in range(window // 2):
        if r > 1:
            r -= 1
    while r + window - 1 > grid:
        r -= 1
    return r


def window_pixels(
    image: NDArray[np.uint8], r: int, s: int, window: int, patch: int
) -> tuple[list[int], list[NDArray[np.uint8]]]:
    """Positions (i - 1) * G + j and patches (K, K, 3) of the window that begins at (r, s); all 1-based."""
    grid = image.shape[0] // patch
    positions, patches = [], []
    for i in range(r, r + window):
        for j in range(s, s + window):
            positions.append((i - 1) * grid + j)
            y, x = (i - 1) * patch, (j - 1) * patch
            patches.append(image[y : y + patch, x : x + patch])
    return positions, patches


def view(image: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
    """Turned by (number // 2) * 90 degrees counter-clockwise, then mirrored left to right if number is odd."""
    for _ in range(number // 2):
        image = image.swapaxes(0, 1)[::-1]
    return image[:, ::-1] if number % 2 else image
