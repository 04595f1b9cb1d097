"""Sizes of differences, in standard deviations of the training images.

Legend: N training images; M new ones; C channels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def is_constant(spread: Any, centre: Any) -> Any:
    """Whether values are constant: their standard deviation `spread` is only rounding of their mean `centre`."""
    return spread <= 1e-9 * np.abs(centre)


def feature_effect(training: NDArray[np.float32], new: NDArray[np.float32]) -> float | None:
    """Root mean square, over channels that vary in training, of the difference of means of (N, C) and (M, C).

    By chance alone, the square of a difference of means is 1 / N + 1 / M on average, which is subtracted. None if no
    channel varies.
    """
    centre, spread = training.mean(0, dtype=np.float64), training.std(0, dtype=np.float64)
    kept = ~is_constant(spread, centre)
    if not kept.any():
        return None
    squares = ((new.mean(0, dtype=np.float64) - centre)[kept] / spread[kept]) ** 2
    return float(np.sqrt(max(0.0, squares.mean() - 1 / len(training) - 1 / len(new))))


def mean_effect(training: NDArray[np.floating], new: NDArray[np.floating]) -> float | None:
    """Difference of the means of (N,) and (M,) values; None if all training values are equal."""
    centre, spread = training.mean(dtype=np.float64), training.std(dtype=np.float64)
    return None if is_constant(spread, centre) else float((new.mean(dtype=np.float64) - centre) / spread)
