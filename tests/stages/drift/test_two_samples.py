"""Hand values and slow references of the tests of two samples."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import ks_2samp

from stages.drift import two_samples


def distances_of(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.sqrt(((rows[:, None] - rows[None]) ** 2).sum(2)))


def test_energy_distance_by_hand_and_all_relabellings() -> None:
    """0, 1 against 4, 5: 2 * 4 - 0.5 - 0.5 = 7; of the six relabellings, it and its mirror are as far apart."""
    labels = two_samples.relabellings(2, 2, 20_000, np.random.default_rng(0), 300)
    statistic, p = two_samples.energy_test(distances_of(np.array([[0.0], [1], [4], [5]])), 2, labels)
    assert statistic == pytest.approx(7)
    assert p == pytest.approx(2 / 6, abs=0.01)


def plain_energy(distances: NDArray[np.float64], second: tuple[int, ...]) -> float:
    first = [i for i in range(len(distances)) if i not in second]
    means = [distances[np.ix_(x, y)].mean() for x, y in ((first, second), (first, first), (second, second))]
    return float(2 * means[0] - means[1] - means[2])


def plain_distance(distances: NDArray[np.float64], second: tuple[int, ...]) -> float:
    """The nearest two of the first sample, by loops."""
    first = [i for i in range(len(distances)) if i not in second]
    nearest = [np.mean(sorted(distances[i, j] for j in first if j != i)[:2]) for i in range(len(distances))]
    return float(ks_2samp([nearest[i] for i in first], [nearest[i] for i in second]).statistic)


@pytest.mark.parametrize("of", ["energy", "distance"])
def test_against_loops_over_all_relabellings(of: str) -> None:
    """The statistic, and the p value over all relabellings of 4 + 3 images."""
    generator = np.random.default_rng(1)
    rows = generator.normal(size=(7, 3))
    rows[4:] += 0.8
    distances = distances_of(rows)
    plain = plain_energy if of == "energy" else plain_distance
    everyone = [plain(distances, second) for second in combinations(range(7), 3)]
    observed = plain(distances, (4, 5, 6))
    labels = two_samples.relabellings(4, 3, 20_000, generator, 300)
    if of == "energy":
        statistic, p = two_samples.energy_test(distances, 4, labels)
    else:
        statistic, p = two_samples.distance_test(distances, two_samples.nearest_order(distances), 2, labels)
    assert statistic == pytest.approx(observed)
    assert p == pytest.approx(np.mean([value >= observed - 1e-12 for value in everyone]), abs=0.012)


def test_no_relabelling_as_far_apart_gives_the_smallest_p() -> None:
    rows = np.repeat([[0.0], [1.0]], 20, axis=0)
    labels = two_samples.relabellings(20, 20, 199, np.random.default_rng(0), 64)
    assert two_samples.energy_test(distances_of(rows), 20, labels)[1] == pytest.approx(1 / 200)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 999), st.integers(3, 12), st.integers(1, 30), st.integers(1, 8))
def test_nearest_against_loops(seed: int, n: int, m: int, neighbours: int) -> None:
    """With many images of the second sample, few of an image's neighbours are of the first."""
    generator = np.random.default_rng(seed)
    k = min(neighbours, n - 1)
    distances = distances_of(generator.normal(size=(n + m, 2)))
    labels = np.concatenate(list(two_samples.relabellings(n, m, 3, generator, 2)))
    found = two_samples.nearest_distances(distances, two_samples.nearest_order(distances), labels, k)
    for is_second, values in zip(labels, found, strict=True):
        for i in range(n + m):
            others = sorted(distances[i, j] for j in np.flatnonzero(~is_second) if j != i)
            assert values[i] == pytest.approx(np.mean(others[:k]))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 999), st.integers(1, 12), st.integers(1, 12), st.integers(1, 6))
def test_largest_difference_of_distributions(seed: int, n: int, m: int, levels: int) -> None:
    """Against SciPy, with ties."""
    values = np.random.default_rng(seed).integers(0, levels, (1, n + m)).astype(float)
    is_second = (np.arange(n + m) >= n)[None]
    expected = ks_2samp(values[0, :n], values[0, n:]).statistic
    assert two_samples.kolmogorov_smirnov(values, is_second)[0] == pytest.approx(expected)


def test_holm_by_hand() -> None:
    assert two_samples.holm([0.03, 0.001, 0.04, 0.5]) == pytest.approx([0.09, 0.004, 0.09, 0.5])
    assert two_samples.holm([0.4, 0.6]) == pytest.approx([0.8, 0.8])
