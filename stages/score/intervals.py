"""Confidence intervals: stratified percentile bootstrap for metrics of a curve, Wilson's interval for rates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from stages.score.metrics import Counts

Statistic = Callable[[Counts, Counts], NDArray[np.float64]]
"""(tp, fp), both (B, U) -> (B,)."""

_CHUNK = 2_000_000
"""Array elements computed at a time. Bounds the memory for any number of images."""


def resample(generator: np.random.Generator, count: int, resamples: int) -> NDArray[np.int64]:
    """Sample `count` of `count` images with replacement: (resamples, count) how often each image is sampled."""
    sampled = generator.integers(0, count, size=(resamples, count))
    flat = sampled + np.arange(resamples)[:, None] * count
    return np.bincount(flat.ravel(), minlength=resamples * count).reshape(resamples, count)


def resampled_counts(
    scores: NDArray[np.float64], labels: NDArray[np.bool_], resamples: int, seed: int
) -> Iterator[tuple[Counts, Counts]]:
    """Yield the cumulated counts (tp, fp), each (B, U), of stratified resamples, B at a time.

    The resamples depend only on the seed and on the number of images of each class. Two detectors scored on the same
    images in the same order get the same resamples, so that their differences are paired.
    """
    distinct, column = np.unique(-scores, return_inverse=True)
    # One generator per class: the resamples of a class do not depend on the other class's size or on the chunk.
    generators = {kind: np.random.default_rng([seed, int(kind)]) for kind in (True, False)}
    for start in range(0, resamples, step := max(1, _CHUNK // len(scores))):
        size = min(step, resamples - start)
        both = []
        for kind, generator in generators.items():
            columns = column[labels == kind]
            order = np.argsort(columns, kind="stable")
            counts = resample(generator, len(columns), size)[:, order]  # (B, n) by falling score
            cumulated = np.concatenate([np.zeros((size, 1)), np.cumsum(counts, axis=1)], axis=1)
            # (B, U): number of sampled images in the columns up to u
            both.append(cumulated[:, np.searchsorted(columns[order], np.arange(len(distinct)), side="right")])
        yield both[0], both[1]


def bootstrap(
    scores: NDArray[np.float64],
    labels: NDArray[np.bool_],
    statistics: Mapping[str, Statistic],
    resamples: int,
    seed: int,
) -> dict[str, NDArray[np.float64]]:
    """By name of a statistic: its value for each resample, (resamples,). Both classes must be present."""
    parts: dict[str, list[NDArray[np.float64]]] = {name: [] for name in statistics}
    for tp, fp in resampled_counts(scores, labels, resamples, seed):
        for name, statistic in statistics.items():
            parts[name].append(statistic(tp, fp))
    return {name: np.concatenate(values) for name, values in parts.items()}


def percentile_interval(values: NDArray[np.float64], confidence: float) -> list[float]:
    """[lo, hi] that contains the share `confidence` of the values; the rest lies on both sides evenly."""
    tail = (1 - confidence) / 2
    return [float(value) for value in np.quantile(values, [tail, 1 - tail])]


def wilson_interval(count: int, total: int, confidence: float) -> list[float]:
    """[lo, hi] of a rate `count / total`, total > 0 (Wilson, JASA 1927). Also valid for rates of 0 and 1."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    rate, weight = count / total, z * z / total
    centre = (rate + weight / 2) / (1 + weight)
    half = z / (1 + weight) * (rate * (1 - rate) / total + weight / total / 4) ** 0.5
    return [0.0 if count == 0 else centre - half, 1.0 if count == total else centre + half]
