"""Tests whether two samples come from one distribution: by permutation, or exact.

Sources: Székely and Rizzo, "Energy statistics", J. Stat. Planning and Inference 143 (2013), section 6 (two samples, by
permutation); Phipson and Smyth, "Permutation p-values should never be zero", SAGMB 9 (2010), equation 2; Holm, "A
simple sequentially rejective multiple test procedure", Scand. J. Statistics 6 (1979).

Legend: n images of the first sample, m of the second; K = n + m; B relabellings at a time; C channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from stages.types import batches

_CHUNK = 8_000_000
"""Array elements computed at a time."""


def relabellings(
    n: int, m: int, permutations: int, generator: np.random.Generator, at_once: int
) -> Iterator[NDArray[np.bool_]]:
    """(B, K) which images are in the second sample: first as they are (B = 1), then exchanged at random."""
    true_labels = (np.arange(n + m) >= n)[None]
    yield true_labels
    for rows in batches(permutations, at_once):
        yield generator.permuted(true_labels.repeat(rows.stop - rows.start, 0), axis=1)


def energy_test(distances: NDArray[np.float64], n: int, labels: Iterator[NDArray[np.bool_]]) -> tuple[float, float]:
    """Energy distance between two samples, and its p value.

    The statistic is 2 E|X - Y| - E|X - X'| - E|Y - Y'|, with means over all pairs (Székely and Rizzo, equation 6.1,
    without the factor n m / (n + m), which is the same for all relabellings).

    Args:
        distances: (K, K) between all images.
        labels: what `relabellings` gives.
    """
    m = len(distances) - n
    total, row_sums = distances.sum(), distances.sum(1)
    statistics = []
    for is_second in labels:
        second = is_second.astype(np.float64)  # (B, K)
        within = np.einsum("bk,bk->b", second @ distances, second)
        across = second @ row_sums - within
        statistics.append(2 * across / (n * m) - within / m**2 - (total - 2 * across - within) / n**2)
    return _with_p_value(statistics)


def distance_test(
    distances: NDArray[np.float64], order: NDArray[np.int64], neighbours: int, labels: Iterator[NDArray[np.bool_]]
) -> tuple[float, float]:
    """Whether the second sample lies farther from the first than the first from itself, and the p value.

    The statistic is the largest difference of the distribution functions (Kolmogorov-Smirnov) of `nearest_distances`.
    Exchanged labels are exact here, and the distribution of Kolmogorov is not: an image of the first sample leaves
    itself out, and its neighbours are its judges as it is theirs.

    Args:
        distances: (K, K) between all images.
        order: what `nearest_order` gives.
        neighbours: fewer than n.
        labels: what `relabellings` gives.
    """
    statistics = []
    for is_second in labels:
        nearest = nearest_distances(distances, order, is_second, neighbours)
        statistics.append(kolmogorov_smirnov(nearest, is_second))
    return _with_p_value(statistics)


def nearest_order(distances: NDArray[np.float64]) -> NDArray[np.int64]:
    """(K, K) the other images of each, nearest first, and itself last."""
    others = distances.copy()
    np.fill_diagonal(others, np.inf)
    return np.argsort(others, axis=1, kind="stable")


def nearest_distances(
    distances: NDArray[np.float64], order: NDArray[np.int64], is_second: NDArray[np.bool_], neighbours: int
) -> NDArray[np.float64]:
    """(B, K) mean distance of each image to its nearest images of the first sample, itself left out.

    Args:
        distances: (K, K) between all images.
        order: what `nearest_order` gives.
        is_second: (B, K).
        neighbours: fewer than the images of the first sample.
    """
    count = len(distances)
    share = 1 - is_second.mean()
    width = min(count - 1, int((neighbours + 6 * neighbours**0.5 + 8) / share) + 1)  # nearly always enough
    near = np.take_along_axis(distances, order[:, :width], axis=1)  # (K, L)
    result = np.empty(is_second.shape)
    for rows in batches(len(is_second), max(1, _CHUNK // (count * width))):
        first = ~is_second[rows][:, order[:, :width]]  # (B, K, L)
        rank = np.cumsum(first, axis=2, dtype=np.int32)
        result[rows] = np.einsum("bkl,kl->bk", first & (rank <= neighbours), near) / neighbours
        for b, i in np.argwhere(rank[:, :, -1] < neighbours):
            others = order[i, :-1]
            chosen = others[~is_second[rows][b, others]][:neighbours]
            result[rows.start + b, i] = distances[i, chosen].mean()
    return result


def kolmogorov_smirnov(values: NDArray[np.float64], is_second: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(B,) largest difference of the distribution functions of two samples of K values.

    Args:
        values, is_second: (B, K).
    """
    order = np.argsort(values, axis=1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=1)
    second = np.take_along_axis(is_second, order, axis=1)
    m = second.sum(1, keepdims=True)
    n = values.shape[1] - m
    steps = np.cumsum(np.where(second, n, -m), axis=1)  # whole numbers: equal distributions differ by exactly 0
    is_last = np.ones(values.shape, bool)  # of equal values
    is_last[:, :-1] = ordered[:, 1:] > ordered[:, :-1]
    return np.abs(np.where(is_last, steps, 0)).max(axis=1) / (n * m)[:, 0]


def _with_p_value(statistics: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    """The observed statistic, which comes first, and the share of relabellings with one as large, itself included."""
    observed, permuted = float(statistics[0][0]), np.concatenate(statistics[1:])
    as_large = int((permuted >= observed - 1e-9 * abs(observed)).sum())  # values that differ by rounding are equal
    return observed, (1 + as_large) / (1 + len(permuted))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p values. If all tests with a value of at most the level are rejected, the chance of any false rejection
    is at most the level."""
    order = np.argsort(p_values, kind="stable")
    factors = len(p_values) - np.arange(len(p_values))
    raised = np.minimum(np.maximum.accumulate(np.asarray(p_values)[order] * factors), 1.0)
    adjusted = np.empty(len(p_values))
    adjusted[order] = raised
    return [float(value) for value in adjusted]
