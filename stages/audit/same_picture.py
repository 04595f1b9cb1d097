"""Whether two images are the same picture: correlation of what is fine in them, such as grain and scratches.

A perceptual hash sees the layout alone, so other parts in the same pose have nearly the same hash. What is coarse is
subtracted, what remains is brought to equal strength everywhere, and the best correlation over all shifts is taken.
Images of parts that always lie in the same place correlate by their edges too. So the correlation is held against that
with some other images of the category (`excess`).

Legend: S side in pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

SIDE = 256
"""Side in pixels at which images are compared. Larger, a copy of a smaller size would be taken for another picture."""
_COARSE, _SURROUNDINGS = 1.5, 6.0
"""Standard deviations of Gaussian filters, in pixels: what is coarse, and the area in which strength is measured."""
_LARGEST = 3.0
"""Largest detail, in local standard deviations: a strong edge counts little more than grain."""


def detail(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(S, S, 3) RGB -> (S, S) what is fine in the image, of length 1, fading out towards the border."""
    grey = image.mean(axis=2, dtype=np.float32)
    fine = grey - gaussian_filter(grey, _COARSE)
    strength = np.sqrt(gaussian_filter(fine * fine, _SURROUNDINGS)) + 0.5  # half a grey level: flat areas stay quiet
    fine = np.clip(fine / strength, -_LARGEST, _LARGEST)
    window = np.sqrt(np.outer(np.hanning(len(grey)), np.hanning(len(grey)))).astype(np.float32)
    fine = (fine - fine.mean()) * window
    return np.asarray(fine / max(float(np.linalg.norm(fine)), 1e-6), np.float32)


def likeness(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Largest correlation of two details over all shifts, -1 to 1; 1 for the same picture, also if it has no detail."""
    if not a.any() and not b.any():
        return 1.0
    spectrum = np.fft.rfft2(a) * np.conj(np.fft.rfft2(b))
    return float(np.fft.irfft2(spectrum, s=a.shape).max())


def excess(likeness_of_pair: float, typical: float) -> float:
    """How far a likeness lies above the typical one of other images, as a share of the way to 1."""
    return (likeness_of_pair - typical) / max(1 - typical, 1e-6)
