"""DeLong's test: whether two models that scored the same images differ in AUROC."""

from __future__ import annotations

from dataclasses import dataclass
from math import erfc, inf, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from stages.score.resamples import group_numbers, groups_of_class


@dataclass(frozen=True)
class DeLong:
    """The comparison of two correlated areas under the ROC curve."""

    a: float
    """AUROC of A."""
    b: float
    """AUROC of B."""
    variance: float | None
    """Variance of B - A; None if the images of a class are of one group."""
    z: float | None
    """(b - a) / sqrt(variance); None if the test cannot be made."""
    p: float | None
    """Two-sided p value; 1 for equal areas. None if the test cannot be made: the variance is unknown, or it is zero
    although the areas differ."""


def delong(
    scores_a: NDArray[np.float64],
    scores_b: NDArray[np.float64],
    labels: NDArray[np.bool_],
    groups: NDArray[np.int64] | None = None,
) -> DeLong:
    """DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988), 837-845, equations 3 to 7, in O(N log N).

    Sun and Xu, IEEE Signal Processing Letters 21 (2014), 1389-1393, compute the structural components from midranks
    (equations 5 to 9). An image's midrank among all images minus its midrank in its own class is the number of images
    of the other class below it, with ties as half; this number is counted here. The variance of B - A is computed from
    the differences of the components instead of their covariance matrix: it is the same sum, and exactly zero for two
    models with the same ranking.

    Related images: Obuchowski, Biometrics 53 (1997), 567-578, sums the components over groups first; p is by
    Student's distribution, because groups are few.

    Args:
        scores_a, scores_b: (N,) scores of the same images, higher = more anomalous.
        labels: (N,) True = defect. Both classes must be present.
        groups: (N,) the group of each image; equal for related images. None: the images are unrelated.
    """
    (defects_a, goods_a), (defects_b, goods_b) = _components(scores_a, labels), _components(scores_b, labels)
    a, b = float(defects_a.mean()), float(defects_b.mean())
    group = group_numbers(np.arange(len(labels)) if groups is None else groups)
    fewest = min(groups_of_class(labels, group))
    if fewest < 2:
        return DeLong(a, b, None, None, None)
    variance = _variance(defects_b - defects_a, goods_b - goods_a, group[labels], group[~labels])
    freedom = inf if len(np.unique(group)) == len(group) else fewest - 1
    return DeLong(a, b, variance, *_test(b - a, variance, freedom))


def _variance(
    defects: NDArray[np.float64], goods: NDArray[np.float64], of_defects: NDArray[np.int64], of_goods: NDArray[np.int64]
) -> float:
    """Obuchowski's variance of a mean of components; DeLong's if each image is its own group.

    Args:
        defects, goods: (P,) and (Q,) components.
        of_defects, of_goods: (P,) and (Q,) their groups.
    """
    count = 1 + max(int(of_defects.max()), int(of_goods.max()))
    parts = []
    for components, of in ((defects, of_defects), (goods, of_goods)):
        present = len(np.unique(of))
        sums = np.bincount(of, weights=components - components.mean(), minlength=count) / len(components)
        parts.append((sums, present / (present - 1)))
    (of_defect, correct_defect), (of_good, correct_good) = parts
    variance = correct_defect * float((of_defect**2).sum()) + correct_good * float((of_good**2).sum())
    return max(0.0, variance + 2 * count / (count - 1) * float((of_defect * of_good).sum()))


def _components(
    scores: NDArray[np.float64], labels: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(P,) share of good images below each defect, (Q,) share of defects above each good image; ties count half."""
    bad, good = scores[labels], scores[~labels]
    sorted_bad, sorted_good = np.sort(bad), np.sort(good)
    below = np.searchsorted(sorted_good, bad, "left") + np.searchsorted(sorted_good, bad, "right")
    not_above = np.searchsorted(sorted_bad, good, "left") + np.searchsorted(sorted_bad, good, "right")
    return below / (2 * len(good)), 1 - not_above / (2 * len(bad))


def _test(difference: float, variance: float, freedom: float) -> tuple[float | None, float | None]:
    """z and p; by Student's distribution with these degrees of freedom, or by the normal one if they are infinite."""
    if variance > 0:
        z = difference / sqrt(variance)
        return z, erfc(abs(z) / sqrt(2)) if freedom == inf else 2 * float(stdtr(freedom, -abs(z)))
    return (0.0, 1.0) if difference == 0 else (None, None)
