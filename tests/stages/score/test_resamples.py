"""Resamples of groups, and the intervals of related images."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.score import intervals, metrics, resamples
from tests.benchmarks.intervals import areas, coverage, rates


@settings(max_examples=40)
@given(st.integers(0, 999), st.integers(2, 40), st.integers(1, 12), st.integers(1, 2000))
def test_groups_stay_whole_and_both_classes_are_there(seed: int, images: int, groups: int, chunk: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(images) % 3 == 0)
    names = rng.integers(0, groups, images)
    drawn = list(resamples.resampled_images(labels, names, 20, seed, chunk))
    counts = np.empty((20, images), np.int64)
    counts[:, labels], counts[:, ~labels] = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
    for group in np.unique(names):
        of_group = counts[:, names == group]
        assert (of_group == of_group[:, :1]).all()
    for label in (False, True):
        assert (counts[:, labels == label].sum(1) > 0).all()
    # as many groups are drawn as there are, of those with good images only, with defects only, and with both
    first = {group: np.flatnonzero(names == group)[0] for group in np.unique(names)}
    kinds = {group: frozenset(labels[names == group].tolist()) for group in first}
    for kind in set(kinds.values()):
        chosen = [first[group] for group in first if kinds[group] == kind]
        assert (counts[:, chosen].sum(1) == len(chosen)).all()


def test_what_groups_are_called_changes_nothing() -> None:
    labels, names = np.arange(12) < 6, np.array(list("aabbccddeeff"))
    other = np.array([{"a": "z", "b": "y"}.get(name, name) for name in names])
    first, second = (next(resamples.resampled_images(labels, of, 9, 3, 10**6)) for of in (names, other))
    assert all((a == b).all() for a, b in zip(first, second, strict=True))
    assert resamples.group_numbers(other).tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert resamples.groups_of_class(labels, resamples.group_numbers(names)) == (3, 3)


def test_few_groups_widen_the_percentiles() -> None:
    """Six groups: Student's quantile at 5 degrees of freedom, 2.571, times sqrt(6 / 5) instead of 1.96."""
    values = np.arange(10_001) / 10_000
    tail = NormalDist().cdf(-2.5706 * (6 / 5) ** 0.5)
    assert intervals.percentile_interval(values, 0.95, 6) == pytest.approx([tail, 1 - tail], abs=1e-4)
    assert intervals.percentile_interval(values, 0.95, 10**6) == pytest.approx([0.025, 0.975], abs=1e-4)


def test_a_rate_of_groups_by_hand() -> None:
    """Four groups of five; 5, 0, 2 and 1 errors: rate 0.4, sums less their mean 3, -2, 0, -1."""
    errors = np.array([1] * 5 + [0] * 5 + [1, 1, 0, 0, 0] + [1, 0, 0, 0, 0], bool)
    groups = np.repeat(np.arange(4), 5)
    effect = (9 + 4 + 0 + 1) * 4 / 3 / (20 * 0.4 * 0.6 * 20 / 19)
    assert intervals.design_effect(errors, groups) == pytest.approx(effect)
    # errors in three groups, right ones in three: a ninth of the way to 5, that of images that are all alike
    effective = 20 / (8 / 9 * effect + 5 / 9)
    weight = 3.18245**2 / effective  # Student, 3 degrees of freedom
    centre = (0.4 + weight / 2) / (1 + weight)
    half = 3.18245 / (1 + weight) * (0.24 / effective + weight / effective / 4) ** 0.5
    assert intervals.rate_interval(errors, groups, 0.95) == pytest.approx([centre - half, centre + half], abs=1e-5)


def test_without_errors_images_of_a_group_count_as_one() -> None:
    """None of 40 images in four groups: no more is known than from four images, at Student's quantile."""
    low, high = intervals.rate_interval(np.zeros(40, bool), np.repeat(np.arange(4), 10), 0.95)
    weight = 3.18245**2 / 4
    assert (low, high) == pytest.approx((0, weight / (1 + weight)), abs=1e-5)
    assert intervals.rate_interval(np.zeros(40, bool), np.zeros(40, np.int64), 0.95) == [0.0, 1.0]


def test_unrelated_images_have_no_design_effect() -> None:
    errors = np.random.default_rng(0).random(50) < 0.3
    assert intervals.design_effect(errors, np.arange(50)) == pytest.approx(1)


def test_an_interval_by_groups_is_wider() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(12), 10)
    labels, scores = groups % 2 == 0, rng.normal(size=12)[groups] + 0.3 * rng.normal(size=120)
    widths = []
    for of in (groups, np.arange(120)):
        samples = intervals.bootstrap(scores, labels, of, {"auroc": metrics.auroc}, 300, 0)["auroc"]
        low, high = intervals.percentile_interval(samples, 0.95, len(np.unique(of)))
        widths.append(high - low)
    assert widths[0] > 2 * widths[1]


@pytest.mark.parametrize("mixed", [False, True])
def test_areas_of_related_images_are_covered(mixed: bool) -> None:
    """20 groups with three tenths of the variance in common, 300 simulations: 0.95 within three standard errors."""
    rows = coverage(lambda seed: areas(20, 0.3, True, mixed, seed), 300)
    found = {row["of"]: row["coverage"] for row in rows}
    for what in ("AUROC", "difference of AUROC"):
        assert 0.91 <= found[what] <= 0.99
    assert found["AUROC, by image"] < found["AUROC"]


def test_rates_of_related_images_are_covered() -> None:
    rows = coverage(lambda seed: rates(20, 0.2, True, 0.3, seed), 600)
    found = {row["of"]: row["coverage"] for row in rows}
    assert 0.92 <= found["rate 0.21"] <= 0.98
    assert 0.92 <= found["difference of rates 0.3"] <= 0.98
    assert found["rate 0.21, by image"] < 0.8
