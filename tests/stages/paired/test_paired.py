from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.paired import paired
from stages.score import metrics
from stages.score.intervals import bootstrap, percentile_interval

OWN = np.arange(1000)
"""Each image is its own group."""
STATISTICS = {"image_auroc": metrics.auroc, "image_aupr": metrics.average_precision}


def test_areas_by_hand() -> None:
    labels = np.array([True, True, False, False])
    a, b = np.array([3.0, 1.0, 2.0, 0.0]), np.array([3.0, 2.0, 2.0, 0.0])
    differences = paired.area_differences({"x": (a, b)}, labels, OWN[:4], 10, 0.9, 0)["x"]
    # A: 3 of 4 pairs right; B: 3 right and one tie. AP of A: (1 + 2/3) / 2; of B: the tied good image enters with it
    assert (differences["image_auroc"].a, differences["image_auroc"].b) == (0.75, 0.875)
    assert (differences["image_aupr"].a, differences["image_aupr"].b) == pytest.approx(
        ((1 + 2 / 3) / 2, (1 + 2 / 3) / 2)
    )
    assert differences["image_auroc"].value == 0.125


@settings(max_examples=50)
@given(st.integers(2, 20), st.integers(2, 20), st.integers(2, 40), st.integers(0, 1000), st.integers(1, 4000))
def test_equals_the_plain_bootstrap(bad: int, good: int, distinct: int, seed: int, chunk: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(bad + good) < bad)
    a, b = rng.integers(0, distinct, (2, bad + good)) / 3  # few values: many ties
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paired, "_CHUNK", chunk)
        differences = paired.area_differences({0: (a, b), 1: (b, a)}, labels, OWN[: bad + good], 30, 0.8, seed)
    plain = [bootstrap(scores, labels, OWN[: bad + good], STATISTICS, 30, seed) for scores in (a, b)]
    for metric in STATISTICS:
        expected = percentile_interval(plain[1][metric] - plain[0][metric], 0.8, min(bad, good))
        assert differences[0][metric].interval == pytest.approx(expected, abs=1e-12)
        low, high = differences[0][metric].interval or (0, 0)
        assert differences[1][metric].interval == pytest.approx(
            (-high, -low), abs=1e-12
        )  # the same resamples for every pair
        curves = [metrics.curve(scores, labels) for scores in (a, b)]
        values = [float(STATISTICS[metric](curve.tp, curve.fp)) for curve in curves]
        assert [differences[0][metric].a, differences[0][metric].b] == pytest.approx(values, abs=1e-12)


def test_one_image_of_a_class_has_no_interval() -> None:
    differences = paired.area_differences(
        {0: (np.arange(3.0), np.arange(3.0))}, np.array([True, False, False]), OWN[:3], 10, 0.9, 0
    )
    assert differences[0]["image_auroc"].interval is None
    assert differences[0]["image_auroc"].a == 0.0


def test_pairing_narrows_the_interval() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(200) < 100
    common = rng.normal(size=200) + labels
    a, b = common + 0.1 * rng.normal(size=(2, 200))
    other = rng.normal(size=200) + labels
    differences = paired.area_differences({"similar": (a, b), "different": (a, other)}, labels, OWN[:200], 300, 0.95, 0)
    similar, different = (differences[key]["image_auroc"].interval or (0, 0) for key in ("similar", "different"))
    assert similar[1] - similar[0] < 0.4 * (different[1] - different[0])


def test_coverage() -> None:
    """Correlated binormal scores of known AUROC difference: 1,000 simulations."""
    normal, size, shift_a, shift_b, alike = NormalDist(), 150, 1.0, 1.3, 0.7
    truth = normal.cdf(shift_b / 2**0.5) - normal.cdf(shift_a / 2**0.5)
    labels = np.arange(2 * size) < size
    covered = 0
    for block in range(10):  # each with its own random stream
        rng = np.random.default_rng([1, block])
        common = alike * rng.normal(size=(100, 1, 2 * size))
        scores = common + (1 - alike**2) ** 0.5 * rng.normal(size=(100, 2, 2 * size))
        scores += np.array([shift_a, shift_b])[:, None] * labels
        differences = paired.area_differences(
            dict(enumerate(map(tuple, scores))), labels, OWN[: 2 * size], 400, 0.95, block
        )
        ends = [pair["image_auroc"].interval or (0, 0) for pair in differences.values()]
        covered += sum(low <= truth <= high for low, high in ends)
    assert 930 <= covered <= 970


def test_rates_by_hand() -> None:
    wrong_a, wrong_b = np.zeros(98, bool), np.zeros(98, bool)
    wrong_a[:10] = wrong_b[4:16] = True  # 4 only A, 6 only B, 6 both
    difference = paired.rate_difference(wrong_a, wrong_b, OWN[:98], 0.95)
    assert (difference.a, difference.b) == (10 / 98, 12 / 98)
    half = 1.959964 * (11 - 4 / 100) ** 0.5 / 100
    assert difference.interval == pytest.approx((0.02 - half, 0.02 + half), abs=1e-6)


def test_few_flips_show_nothing() -> None:
    wrong = np.arange(100) < 4  # an exact test of 4 against 0: p = 0.125
    difference = paired.rate_difference(np.zeros(100, bool), wrong, OWN[:100], 0.95)
    assert difference.interval is not None and difference.interval[0] < 0 < difference.interval[1]
    more = paired.rate_difference(np.zeros(100, bool), np.arange(100) < 8, OWN[:100], 0.95)
    assert more.interval is not None and more.interval[0] > 0


@given(st.integers(1, 40), st.integers(0, 2**32 - 1), st.floats(0.5, 0.99))
def test_rate_intervals_are_sane(size: int, seed: int, confidence: float) -> None:
    wrong_a, wrong_b = np.random.default_rng(seed).random((2, size)) < 0.4
    difference, reverse = (
        paired.rate_difference(*both, OWN[:size], confidence) for both in ((wrong_a, wrong_b), (wrong_b, wrong_a))
    )
    assert difference.interval is not None and reverse.interval is not None
    assert -1 <= difference.interval[0] < difference.interval[1] <= 1
    assert reverse.interval == pytest.approx((-difference.interval[1], -difference.interval[0]))


@pytest.mark.parametrize(
    ("metric", "interval", "expected"),
    [
        ("image_auroc", (0.01, 0.02), "better"),
        ("image_auroc", (-0.02, -0.01), "worse"),
        ("image_auroc", (0.0, 0.02), "no difference shown"),
        ("escape_rate", (0.01, 0.02), "worse"),
        ("overkill_rate", (-0.02, -0.01), "better"),
        ("overkill_rate", (-0.02, 0.01), "no difference shown"),
    ],
)
def test_verdict(metric: str, interval: tuple[float, float], expected: str) -> None:
    assert paired.verdict(metric, interval) == expected
