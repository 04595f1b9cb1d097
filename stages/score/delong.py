"""DeLong's test: do two models that scored the same images differ in AUROC?"""

from __future__ import annotations

from dataclasses import dataclass
from math import erfc, sqrt

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class DeLong:
    """Two correlated areas under the ROC curve."""

    a: float
    b: float
    """AUROC of A and of B."""
    variance: float | None
    """Of B - A; None with fewer than two images of a class."""
    z: float | None
    """(b - a) / sqrt(variance)."""
    p: float | None
    """Two-sided. 1 for equal areas. None where the test says nothing: no variance, or none but the areas differ."""


def delong(scores_a: NDArray[np.float64], scores_b: NDArray[np.float64], labels: NDArray[np.bool_]) -> DeLong:
    """DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988), 837-845, equations 3 to 7, in O(N log N).

    Sun and Xu, IEEE Signal Processing Letters 21 (2014), 1389-1393, take the structural components from midranks
    (equations 5 to 9). An image's midrank among all, less that among its own class, is how many of the other class lie
    below it, ties half; that is counted here. The variance of B - A is taken from the components' differences instead
    of from their covariance matrix, which is the same sum, and exactly zero for two models that rank alike.

    Args:
        scores_a, scores_b: (N,) of the same images, higher = more anomalous.
        labels: (N,) True = defect. Both classes must be present.
    """
    (defects_a, goods_a), (defects_b, goods_b) = _components(scores_a, labels), _components(scores_b, labels)
    a, b = float(defects_a.mean()), float(defects_b.mean())
    differences = (defects_b - defects_a, goods_b - goods_a)
    if min(len(one) for one in differences) < 2:
        return DeLong(a, b, None, None, None)
    variance = sum(float(np.var(one, ddof=1)) / len(one) for one in differences)
    return DeLong(a, b, variance, *_test(b - a, variance))


def _components(
    scores: NDArray[np.float64], labels: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(P,) share of good images below each defect, (Q,) share of defects above each good image; ties half."""
    bad, good = scores[labels], scores[~labels]
    sorted_bad, sorted_good = np.sort(bad), np.sort(good)
    below = np.searchsorted(sorted_good, bad, "left") + np.searchsorted(sorted_good, bad, "right")
    not_above = np.searchsorted(sorted_bad, good, "left") + np.searchsorted(sorted_bad, good, "right")
    return below / (2 * len(good)), 1 - not_above / (2 * len(bad))


def _test(difference: float, variance: float) -> tuple[float | None, float | None]:
    if variance > 0:
        z = difference / sqrt(variance)
        return z, erfc(abs(z) / sqrt(2))
    return (0.0, 1.0) if difference == 0 else (None, None)
