from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from stages.paired.delong import delong
from tests.reference import delong as reference

OVARIAN = """
3.0 5.8 10 0  3.2 6.3 5 1  3.9 6.8 3 1  2.8 4.8 6 0  3.2 5.8 3 1  0.9 4.0 5 0  2.5 5.7 8 0  1.6 5.6 5 1  3.8 5.7 5 1
3.7 6.7 6 1  3.2 5.4 4 1  3.8 6.6 6 1  4.1 6.6 5 1  3.6 5.7 5 1  4.3 7.0 4 1  3.6 6.7 4 0  2.3 4.4 6 1  4.2 7.6 4 0
4.0 6.6 6 0  3.5 5.8 6 1  3.8 6.8 7 1  3.0 4.7 8 0  4.5 7.4 5 1  3.7 7.4 5 1  3.1 6.6 6 1  4.1 8.2 6 1  4.3 7.0 5 1
4.3 6.5 4 1  3.2 5.1 5 1  2.6 4.7 6 1  3.3 6.8 6 0  1.7 4.0 7 0  3.7 6.1 5 1  3.3 6.3 7 1  4.2 7.7 6 1  3.5 6.2 5 1
2.9 5.7 9 0  2.1 4.8 7 1  2.8 6.2 8 0  4.0 7.0 7 1  3.3 5.7 6 1  3.7 6.9 5 1  3.6 6.6 5 1
"""
"""Albumin, total protein, K-G score and outcome of 43 patients: the example of DeLong et al. (1988)."""


def test_by_hand() -> None:
    # defects 3, 1 and good 2, 0 for A; B ranks all right
    labels = np.array([True, True, False, False])
    result = delong(np.array([3.0, 1.0, 2.0, 0.0]), np.array([3.0, 2.0, 1.0, 0.0]), labels)
    # A: components of the defects (1, 1/2), of the good ones (1/2, 1); B: all 1. Differences (0, 1/2) and (1/2, 0),
    # each of variance 1/8; so 1/8/2 + 1/8/2
    assert (result.a, result.b) == (0.75, 1.0)
    assert result.variance == pytest.approx(1 / 8)
    assert result.z == pytest.approx(0.25 / (1 / 8) ** 0.5)
    assert result.p == pytest.approx(0.4795001, abs=1e-6)  # 2 (1 - Phi(0.7071))


def test_published_values() -> None:
    """SAS/STAT 14.1 User's Guide, example 72.8: total protein - K-G score, both areas and the contrast."""
    table = np.array(OVARIAN.split(), dtype=float).reshape(-1, 4)
    assert len(table) == 43
    result = delong(table[:, 2], -table[:, 1], table[:, 3] == 0)  # little protein and a high score go with outcome 0
    assert result.variance is not None and result.z is not None
    assert (result.a, result.b, result.variance**0.5) == pytest.approx((0.7258, 0.6478, 0.1046), abs=5e-5)
    assert (result.z**2, result.p) == pytest.approx((0.5554, 0.4561), abs=5e-5)


@given(st.integers(2, 12), st.integers(2, 12), st.integers(2, 30), st.integers(0, 2**32 - 1))
def test_agrees_with_every_pair_counted(bad: int, good: int, distinct: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(bad + good) < bad)
    a, b = rng.integers(0, distinct, (2, bad + good)) / 7  # few values: many ties
    result = delong(a, b, labels)
    assert result.variance is not None
    if result.variance < 1e-12:
        return
    expected = reference.delong(a.tolist(), b.tolist(), labels.tolist())
    assert (result.a, result.b, result.variance, result.p) == pytest.approx(expected, abs=1e-6)


def test_agrees_on_many_images() -> None:
    rng = np.random.default_rng(0)
    labels = rng.random(400) < 0.6
    a, b = rng.normal(size=(2, 400)) + labels
    result = delong(a, b, labels)
    assert (result.a, result.b, result.variance, result.p) == pytest.approx(
        reference.delong(a.tolist(), b.tolist(), labels.tolist()), abs=1e-6
    )


@given(st.integers(2, 9), st.integers(2, 9), st.integers(0, 2**32 - 1))
def test_the_same_ranks_are_no_difference(bad: int, good: int, seed: int) -> None:
    scores = np.random.default_rng(seed).integers(0, 5, bad + good).astype(float)
    result = delong(scores, 2 * scores + 1, np.arange(bad + good) < bad)
    assert (result.variance, result.z, result.p) == (0.0, 0.0, 1.0)


def test_nothing_is_claimed_without_variance() -> None:
    labels = np.array([True, True, False, False])
    right = labels.astype(float)
    assert delong(right, -right, labels).p is None
    alone = delong(right[1:], right[1:], labels[1:])
    assert (alone.a, alone.variance, alone.p) == (1.0, None, None)


@given(st.integers(0, 2**32 - 1), st.integers(2, 8), st.integers(2, 30))
def test_related_images_against_loops(seed: int, groups: int, distinct: int) -> None:
    """Obuchowski (1997): components less the area, summed over each group of defects and good images."""
    rng = np.random.default_rng(seed)
    group = np.concatenate([np.arange(groups), rng.integers(0, groups, 3 * groups)])
    labels = np.concatenate([np.arange(groups) % 2 == 0, rng.random(3 * groups) < 0.5])
    labels[:4] = [True, False, True, False][: len(labels[:4])]
    a, b = rng.integers(0, distinct, (2, len(group))) / 7
    found = delong(a, b, labels, group)
    if min(len(set(group[labels])), len(set(group[~labels]))) < 2:
        assert found.variance is None
        return

    def parts(scores: np.ndarray) -> dict[int, float]:
        """Of each image: the share of the other class that it is ranked right against, less the area."""
        bad, good = np.flatnonzero(labels), np.flatnonzero(~labels)
        right = {(i, j): reference.kernel(scores[i], scores[j]) for i in bad for j in good}
        area = np.mean(list(right.values()))
        of_bad = {i: np.mean([right[i, j] for j in good]) - area for i in bad}
        return of_bad | {j: np.mean([right[i, j] for i in bad]) - area for j in good}

    first, second = parts(a), parts(b)
    sums = np.zeros((2, groups))
    for image, number in enumerate(group):
        row = 0 if labels[image] else 1
        sums[row, number] += (second[image] - first[image]) / (labels == labels[image]).sum()
    count = len(set(group))
    present = [len(set(group[labels])), len(set(group[~labels]))]
    variance = sum(n / (n - 1) * (row**2).sum() for n, row in zip(present, sums, strict=True))
    variance += 2 * count / (count - 1) * (sums[0] * sums[1]).sum()
    assert found.variance == pytest.approx(max(0.0, variance), abs=1e-12)


def test_few_groups_raise_p() -> None:
    """The same z is less surprising with three groups of good images: Student's distribution, 2 degrees of freedom."""
    rng = np.random.default_rng(1)
    labels, group = np.arange(60) < 30, np.concatenate([np.arange(30), np.repeat([30, 31, 32], 10)])
    scores = rng.normal(size=(2, 60)) + labels
    found = delong(*scores, labels, group)
    assert found.z is not None and found.p == pytest.approx(2 * stats.t(2).sf(abs(found.z)))


def test_each_image_its_own_group_is_delong() -> None:
    rng = np.random.default_rng(2)
    labels, scores = np.arange(30) < 12, rng.normal(size=(2, 30))
    plain, own = delong(*scores, labels), delong(*scores, labels, rng.permutation(30))
    assert (own.variance, own.p) == pytest.approx((plain.variance, plain.p))
