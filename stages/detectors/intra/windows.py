"""The patches of a window, and their pixels, for many windows at once, by index tables instead of loops.

Legend: S side of the canvas in pixels or tokens; Z channels of them; K patch side; G = S / K grid side (N = M of the
paper); L window side in patches; T = L * L patches of a window; P = K * K * Z values of a patch; W windows. Grid
positions are flat, row by row: f(i, j) = i * G + j, 0-based here, 1-based in the paper.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Index = NDArray[np.int64]
Pixels = NDArray[np.uint8 | np.float16]


@dataclass(frozen=True)
class Windows:
    """W windows, each with one covered patch."""

    positions: Index
    """(W, T) flat grid position of each token, row by row."""
    covered: Index
    """(W,) index of the covered token, 0..T-1."""


def place(corners: Index, slots: Index, grid: int, window: int) -> Windows:
    """Windows at the given places.

    Args:
        corners: (W, 2) row and column of the upper left patch, 0..G-L.
        slots: (W,) index of the covered token, 0..T-1.
    """
    steps = np.arange(window)
    inside = (steps[:, None] * grid + steps).reshape(-1)  # (L, L) -> (T,)
    first = corners[:, 0] * grid + corners[:, 1]
    return Windows(first[:, None] + inside, slots)


def centred(grid: int, window: int) -> Windows:
    """One window for each patch of the image, in grid order. The patch is covered, and as central as the border allows.

    Paper, section 3.3: r = g(t) - max(0, g(t) + L - N - 1), g(c) = max(1, c - floor(L / 2)), all 1-based.
    """
    one_based = np.arange(1, grid + 1)
    start = np.maximum(1, one_based - window // 2)  # g
    start = start - np.maximum(0, start + window - grid - 1) - 1  # r, now 0-based
    row, column = (axis.reshape(-1) for axis in np.meshgrid(np.arange(grid), np.arange(grid), indexing="ij"))
    corners = np.stack([start[row], start[column]], axis=1)  # (G * G, 2)
    slots = (row - corners[:, 0]) * window + column - corners[:, 1]
    return place(corners, slots, grid, window)


def sample_windows(rng: np.random.Generator, count: int, grid: int, window: int) -> Windows:
    """Sample `count` windows; place and covered token are uniform and independent (paper, section 3.2)."""
    corners = rng.integers(0, grid - window + 1, size=(count, 2))
    return place(corners, rng.integers(0, window * window, size=count), grid, window)


def pixel_tables(side: int, patch: int) -> Index:
    """(8, G * G, K * K): the flat index in the image of each pixel of each patch of each view.

    View 2 * q + m is the image turned by q * 90 degrees counter-clockwise, then mirrored left to right if m is 1.
    """
    image = np.arange(side * side).reshape(side, side)
    views = [
        np.fliplr(turned) if mirror else turned for turned in map(np.rot90, [image] * 4, range(4)) for mirror in (0, 1)
    ]
    grid = side // patch
    cut = np.stack(views).reshape(8, grid, patch, grid, patch).swapaxes(2, 3)  # (8, G, G, K, K)
    return cut.reshape(8, grid * grid, patch * patch).astype(np.int64)


def views_allowed(rotations: bool, flips: bool) -> Index:
    """The views of `pixel_tables` that training may sample.

    Flips alone are left to right, top to bottom, and both; together with rotations they give all eight views.
    """
    if rotations:
        return np.arange(8) if flips else np.arange(0, 8, 2)
    # top to bottom = turned by 180 degrees, then mirrored (5); both = turned by 180 degrees (4)
    return np.array([0, 1, 4, 5]) if flips else np.array([0])


def gather(images: Tensor, which: Tensor, views: Tensor, positions: Tensor, tables: Tensor) -> Tensor:
    """Read the pixels of windows from images, turned or mirrored, on the device that holds the images.

    Args:
        images: (N, S, S, Z).
        which: (W,) index of each window's image.
        views: (W,) index of each window's view in `tables`.
        positions: (W, T), as in `Windows`.
        tables: from `pixel_tables`.

    Returns:
        (W, T, P), the values of a patch in the order row, column, channel.
    """
    source = tables[views[:, None], positions]  # (W, T, K * K)
    pixels = images.flatten(1, 2)[which[:, None, None], source]  # (N, S * S, Z) -> (W, T, K * K, Z)
    return pixels.flatten(2)


def to_patches(image: Pixels, patch: int) -> Pixels:
    """(S, S, Z) -> (G * G, P)."""
    grid = image.shape[0] // patch
    cut = image.reshape(grid, patch, grid, patch, -1).swapaxes(1, 2)  # (G, G, K, K, Z)
    return np.ascontiguousarray(cut).reshape(grid * grid, -1)
