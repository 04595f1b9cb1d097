"""DeLong's test: whether two models that scored the same images differ in AUROC."""

from __future__ import annotations

from dataclasses import dataclass
from math import erfc, sqrt

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class DeLong:
    """The comparison of two correlated areas under the ROC curve."""

    a: float
    """AUROC of A."""
    b: float
    """AUROC of B."""
    variance: float | None
    """Variance of B - A; None with fewer than two images of a class."""
    z: float | None
    """(b - a) / sqrt(variance); None if the test cannot be made."""
    p: float | None
    """Two-sided p value; 1 for equal areas. None if the test cannot be made: the variance is unknown, or it is zero
    although the areas differ."""


def delong(scores_a: NDArray[np.float64], scores_b: NDArray[np.float64], labels: NDArray[np.bool_]) -> DeLong:
    """DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988), 837-845, equations 3 to 7, in O(N log N).

    Sun and Xu, IEEE Signal Processing Letters 21 (2014), 1389-1393, compute the structural components from midranks
    (equations 5 to 9). An image's midrank among all images minus its midrank in its own class is the number of images
    of the other class below it, with ties as half; this number is counted here. The variance of B - A is computed from
    the differences of the components instead of their covariance matrix: it is the same sum, and exactly zero for two
    models with the same ranking.

    Args:
        scores_a, scores_b: (N,) scores of the same images, higher = more anomalous.
        labels: (N,) True = defect. Both classes must be present.
    """
    (defects_a, goods_a), (defects_b, goods_b) = _components(scores_a, labels), _components(scores_b, labels)
    a, b = float(defects_a.mean()), float(defects_b.mean())
    differences = (defects_b - defects_a, goods_b - goods_a)
    if min(len(components) for components in differences) < 2:
        return DeLong(a, b, None, None, None)
    variance = sum(float(np.var(components, ddof=1)) / len(components) for components in differences)
    return DeLong(a, b, variance, *_test(b - a, variance))


def _components(
    scores: NDArray[np.float64], labels: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(P,) share of good images below each defect, (Q,) share of defects above each good image; ties count half."""
    bad, good = scores[labels], scores[~labels]
    sorted_bad, sorted_good = np.sort(bad), np.sort(good)
    below = np.searchsorted(sorted_good, bad, "left") + np.searchsorted(sorted_good, bad, "right")
    not_above = np.searchsorted(sorted_bad, good, "left") + np.searchsorted(sorted_bad, good, "right")
    return below / (2 * len(good)), 1 - not_above / (2 * len(bad))


def _test(difference: float, variance: float) -> tuple[float | None, float | None]:
    """z and p."""
    if variance > 0:
        z = difference / sqrt(variance)
        return z, erfc(abs(z) / sqrt(2))
    return (0.0, 1.0) if difference == 0 else (None, None)
