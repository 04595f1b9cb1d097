from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.score.calibration import deployed_threshold, rejected


@pytest.mark.parametrize(
    ("count", "target", "rank"),
    [(19, 0.05, 19), (39, 0.05, 38), (99, 0.05, 95), (100, 0.05, 96), (9, 0.1, 9), (99, 0.1, 90), (3, 0.5, 2)],
)
def test_rank_by_hand(count: int, target: float, rank: int) -> None:
    scores = np.random.default_rng(0).permutation(np.arange(1.0, count + 1))
    threshold = deployed_threshold(scores, target)
    assert threshold.value == rank
    assert threshold.overkill_bound == pytest.approx((count + 1 - rank) / (count + 1))
    assert threshold.overkill_bound <= target + 1e-12
    assert threshold.note is None


def test_too_few_images_take_the_largest_and_say_so() -> None:
    threshold = deployed_threshold(np.array([3.0, 1.0, 2.0]), 0.05)
    assert threshold.value == 3
    assert threshold.overkill_bound == pytest.approx(0.25)
    assert threshold.note is not None
    assert all(text in threshold.note for text in ("3 validation images", "0.25", "0.05", "19"))
    assert deployed_threshold(np.arange(18.0), 0.05).note is not None
    assert deployed_threshold(np.arange(19.0), 0.05).note is None


def test_no_images_give_no_threshold() -> None:
    threshold = deployed_threshold(np.array([]), 0.05)
    assert threshold.value is None
    assert threshold.overkill_bound is None
    assert threshold.note


def test_the_promise_holds_over_many_draws() -> None:
    """n = 39 at 10 %: the overkill's mean over draws is (n + 1 - k) / (n + 1) = 0.1 for continuous scores."""
    generator = np.random.default_rng(1)
    over = [
        rejected(
            generator.normal(size=200), float(deployed_threshold(generator.normal(size=39), 0.1).value or 0)
        ).mean()
        for _ in range(2000)
    ]
    assert np.mean(over) == pytest.approx(0.1, abs=0.004)


@given(st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=1, max_size=30), st.floats(0.01, 0.99))
def test_rounding_never_rejects_more(scores: list[float], target: float) -> None:
    values = np.array(scores)
    threshold = deployed_threshold(values, target)
    assert threshold.value is not None
    assert threshold.value == float(repr(threshold.value))
    below = values <= threshold.value
    assert below.sum() >= min(len(values), int(np.ceil((len(values) + 1) * (1 - target) - 1e-9)))
    # and no float32 lies between the quantile and the rounded value
    reached = values[below].max()
    assert np.nextafter(np.float32(reached), np.float32(np.inf)) > threshold.value


def test_an_image_at_the_threshold_passes() -> None:
    assert rejected(np.array([1.0, 1.5, 2.0]), 1.5).tolist() == [False, False, True]


def test_the_value_is_short_and_rounded_up() -> None:
    assert deployed_threshold(np.array([1 / 3]), 0.5).value == 0.333333334
    assert deployed_threshold(np.array([-2 / 3]), 0.5).value == -0.666666666
    assert deployed_threshold(np.array([0.0]), 0.5).value == 0


@pytest.mark.parametrize(("target", "needed"), [(0.05, 59), (0.1, 29), (0.01, 299)])
def test_a_promise_for_this_line_needs_more_images(target: float, needed: int) -> None:
    assert deployed_threshold(np.arange(float(needed)), target, "confidence").note is None
    short = deployed_threshold(np.arange(float(needed - 1)), target, "confidence")
    assert short.note is not None
    assert f"at least {needed} are needed" in short.note
    assert short.overkill_bound == pytest.approx(1 - 0.05 ** (1 / (needed - 1)))  # of the largest of n: 1 - U^(1/n)


@pytest.mark.parametrize(("count", "risk"), [(76, 0.26), (19, 0.38)])
def test_the_chance_that_a_line_exceeds_the_target(count: int, risk: float) -> None:
    """By simulation: the overkill of a line is one minus the level of its threshold among uniform scores."""
    assert deployed_threshold(np.arange(float(count)), 0.05).overkill_risk == pytest.approx(risk, abs=0.005)
    draws = np.sort(np.random.default_rng(0).random((20_000, count)), axis=1)
    rank = int(deployed_threshold(np.arange(1.0, count + 1), 0.05).value or 0)
    assert np.mean(1 - draws[:, rank - 1] > 0.05) == pytest.approx(risk, abs=0.01)


@pytest.mark.parametrize("count", [59, 76, 300])
def test_with_confidence_this_line_holds_the_target(count: int) -> None:
    threshold = deployed_threshold(np.arange(1.0, count + 1), 0.05, "confidence")
    draws = np.sort(np.random.default_rng(1).random((40_000, count)), axis=1)
    assert np.mean(1 - draws[:, int(threshold.value or 0) - 1] > 0.05) <= 0.05 + 0.004
    assert threshold.overkill_risk is not None and threshold.overkill_risk <= 0.05
    assert int(threshold.value or 0) >= int(deployed_threshold(np.arange(1.0, count + 1), 0.05).value or 0)
