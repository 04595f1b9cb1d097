"""Confidence intervals: percentile bootstrap of groups for metrics of a curve, Wilson's interval for rates.

Related images share a group (`stages.score.resamples`); without groups each image is its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import inf, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from stages.score.metrics import Counts
from stages.score.resamples import resampled_images

Statistic = Callable[[Counts, Counts], NDArray[np.float64]]
"""(tp, fp), both (B, U) -> (B,)."""

_CHUNK = 2_000_000
"""Array elements computed at a time. Bounds the memory for any number of images."""


def resampled_counts(
    scores: NDArray[np.float64],
    labels: NDArray[np.bool_],
    groups: NDArray[np.int64],
    resamples: int,
    seed: int,
) -> Iterator[tuple[Counts, Counts]]:
    """Yield the cumulated counts (tp, fp), each (B, U), of the resamples of `resampled_images`, B at a time."""
    distinct, column = np.unique(-scores, return_inverse=True)
    for drawn in resampled_images(labels, groups, resamples, seed, _CHUNK):
        both = []
        for kind, counts in zip((True, False), drawn, strict=True):
            columns = column[labels == kind]
            order = np.argsort(columns, kind="stable")
            by_score = counts[:, order]  # (B, n) by falling score
            cumulated = np.concatenate([np.zeros((len(counts), 1)), np.cumsum(by_score, axis=1)], axis=1)
            # (B, U): number of sampled images in the columns up to u
            both.append(cumulated[:, np.searchsorted(columns[order], np.arange(len(distinct)), side="right")])
        yield both[0], both[1]


def bootstrap(
    scores: NDArray[np.float64],
    labels: NDArray[np.bool_],
    groups: NDArray[np.int64],
    statistics: Mapping[str, Statistic],
    resamples: int,
    seed: int,
) -> dict[str, NDArray[np.float64]]:
    """By name of a statistic: its value for each resample, (resamples,). Both classes must be present."""
    parts: dict[str, list[NDArray[np.float64]]] = {name: [] for name in statistics}
    for tp, fp in resampled_counts(scores, labels, groups, resamples, seed):
        for name, statistic in statistics.items():
            parts[name].append(statistic(tp, fp))
    return {name: np.concatenate(values) for name, values in parts.items()}


def percentile_interval(values: NDArray[np.float64], confidence: float, groups: int) -> list[float]:
    """[lo, hi] of the resampled values: the percentile interval, widened for few groups.

    A resample of few groups spreads too little, and its normal quantile is too small. Hesterberg, The American
    Statistician 69 (2015), 371-386 (expanded percentile interval), takes Student's quantile times
    sqrt(G / (G - 1)) instead, and the percentiles that belong to it.

    Args:
        groups: G > 1, number of groups of the class that has fewer.
    """
    wide = _student_quantile(groups - 1, (1 + confidence) / 2) * sqrt(groups / (groups - 1))
    tail = NormalDist().cdf(-wide)
    return [float(value) for value in np.quantile(values, [tail, 1 - tail])]


def rate_interval(errors: NDArray[np.bool_], groups: NDArray[np.int64], confidence: float) -> list[float]:
    """[lo, hi] of the share of errors among n > 0 images: Wilson's interval (JASA 1927), also valid at 0 and 1.

    Where images share groups, n is divided by the design effect, and Student's quantile with G - 1 degrees of freedom
    replaces the normal one (as Korn and Graubard do with exact limits, Survey Methodology 24 (1998), 193-201). If few
    groups hold all errors, the effect is underestimated: it is moved towards that of groups whose images are all alike,
    by the weight 1 / (groups with errors) ** 2. Without this, intervals of rare errors hold the truth too seldom.

    Args:
        errors: (n,) whether each image is an error.
        groups: (n,) the group of each image.
    """
    total, rate = len(errors), float(errors.mean())
    z = student_or_normal(groups, confidence)
    if z == inf:
        return [0.0, 1.0]
    sizes, wrong = np.bincount(groups), np.bincount(groups, weights=errors)
    affected = min(int((wrong > 0).sum()), int((wrong < sizes).sum()))
    weight_alike = 1 / max(1, affected) ** 2
    all_alike = float((sizes**2).sum()) / total
    effective = total / ((1 - weight_alike) * design_effect(errors, groups) + weight_alike * all_alike)
    weight = z * z / effective
    centre = (rate + weight / 2) / (1 + weight)
    half = z / (1 + weight) * (rate * (1 - rate) / effective + weight / effective / 4) ** 0.5
    return [0.0 if rate == 0 else centre - half, 1.0 if rate == 1 else centre + half]


def student_or_normal(groups: NDArray[np.int64], confidence: float) -> float:
    """Half the width of an interval in standard errors: by Student with G - 1 degrees of freedom if images share
    groups (infinite for one group), else by the normal distribution."""
    count, upper = len(np.unique(groups)), (1 + confidence) / 2
    if count == len(groups):
        return NormalDist().inv_cdf(upper)
    return _student_quantile(count - 1, upper) if count > 1 else inf


def _student_quantile(freedom: int, probability: float) -> float:
    from scipy.special import stdtrit  # here, because params.yaml is read with this module and SciPy loads slowly

    return float(stdtrit(freedom, probability))


def design_effect(values: NDArray[np.bool_] | NDArray[np.integer], groups: NDArray[np.int64]) -> float:
    """By what factor the variance of a mean is larger than with independent images, at least 1.

    Rao and Scott, Biometrics 48 (1992), 577-585: the variance between groups of a ratio of sums. 1 if each
    image is its own group, or if all values are equal.
    """
    centred = values - values.mean()
    sums = np.bincount(groups, weights=centred)
    count, total = len(np.unique(groups)), len(values)
    spread = float((centred**2).sum())
    if count < 2 or spread == 0:
        return 1.0
    independent = spread * total / (total - 1)
    clustered = float((sums**2).sum()) * count / (count - 1)
    return max(1.0, clustered / independent)
