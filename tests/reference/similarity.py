"""Slow, independent versions of the image comparisons, in NumPy float64, one pixel at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float64]
"""(C, H, W) in [0, 1]."""


def _at(plane: NDArray[np.float64], y: int, x: int) -> float:
    """The pixel, or the nearest one inside."""
    return float(plane[min(max(y, 0), plane.shape[0] - 1), min(max(x, 0), plane.shape[1] - 1)])


def _magnitude(grey: NDArray[np.float64], y: int, x: int) -> float:
    horizontal = np.array([[-1, 0, 1]] * 3) / 3
    patch = np.array([[_at(grey, y + dy, x + dx) for dx in (-1, 0, 1)] for dy in (-1, 0, 1)])
    return float(np.hypot((patch * horizontal).sum(), (patch * horizontal.T).sum()))


def gms(a: Image, b: Image, c: float = 0.0026) -> NDArray[np.float64]:
    """(H, W)."""
    grey_a, grey_b = a.mean(0), b.mean(0)
    result = np.empty_like(grey_a)
    for y, x in np.ndindex(result.shape):
        g, h = _magnitude(grey_a, y, x), _magnitude(grey_b, y, x)
        result[y, x] = (2 * g * h + c) / (g * g + h * h + c)
    return result


def _half(image: Image) -> Image:
    channels, height, width = image.shape
    result = np.empty((channels, -(-height // 2), -(-width // 2)))
    for c, y, x in np.ndindex(result.shape):
        result[c, y, x] = image[c, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].mean()
    return result


def _enlarge(plane: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    """Bilinear, pixel centres aligned, nearest pixel outside the outermost centres."""
    result = np.empty((height, width))
    for y, x in np.ndindex(height, width):
        v = max((y + 0.5) * plane.shape[0] / height - 0.5, 0.0)
        u = max((x + 0.5) * plane.shape[1] / width - 0.5, 0.0)
        i, j = int(v), int(u)
        p, q = v - i, u - j
        top = (1 - q) * _at(plane, i, j) + q * _at(plane, i, j + 1)
        bottom = (1 - q) * _at(plane, i + 1, j) + q * _at(plane, i + 1, j + 1)
        result[y, x] = (1 - p) * top + p * bottom
    return result


def msgms(a: Image, b: Image, scales: int = 3) -> NDArray[np.float64]:
    """(H, W)."""
    height, width = a.shape[1:]
    total = np.zeros((height, width))
    for _ in range(scales):
        total += _enlarge(gms(a, b), height, width)
        a, b = _half(a), _half(b)
    return total / scales


def ssim(a: Image, b: Image) -> NDArray[np.float64]:
    """(H, W)."""
    dy, dx = np.mgrid[-5:6, -5:6]
    window = np.exp(-(dy**2 + dx**2) / (2 * 1.5**2))
    window /= window.sum()
    result = np.zeros(a.shape[1:])
    for channel in range(a.shape[0]):
        for y, x in np.ndindex(result.shape):
            p = np.array([[_at(a[channel], y + j, x + i) for i in range(-5, 6)] for j in range(-5, 6)])
            q = np.array([[_at(b[channel], y + j, x + i) for i in range(-5, 6)] for j in range(-5, 6)])
            mp, mq = (window * p).sum(), (window * q).sum()
            vp, vq = (window * (p - mp) ** 2).sum(), (window * (q - mq) ** 2).sum()
            cov = (window * (p - mp) * (q - mq)).sum()
            top = (2 * mp * mq + 1e-4) * (2 * cov + 9e-4)
            result[y, x] += top / ((mp**2 + mq**2 + 1e-4) * (vp + vq + 9e-4))
    return result / a.shape[0]
