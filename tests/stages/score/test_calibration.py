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
    found = deployed_threshold(scores, target)
    assert found.value == rank
    assert found.overkill_bound == pytest.approx((count + 1 - rank) / (count + 1))
    assert found.overkill_bound <= target + 1e-12
    assert found.note is None


def test_too_few_images_take_the_largest_and_say_so() -> None:
    found = deployed_threshold(np.array([3.0, 1.0, 2.0]), 0.05)
    assert found.value == 3
    assert found.overkill_bound == pytest.approx(0.25)
    assert found.note is not None
    assert all(text in found.note for text in ("3 validation images", "0.25", "0.05", "19"))
    assert deployed_threshold(np.arange(18.0), 0.05).note is not None
    assert deployed_threshold(np.arange(19.0), 0.05).note is None


def test_no_images_give_no_threshold() -> None:
    found = deployed_threshold(np.array([]), 0.05)
    assert found.value is None
    assert found.overkill_bound is None
    assert found.note


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
    found = deployed_threshold(values, target)
    assert found.value is not None
    assert found.value == float(repr(found.value))
    below = values <= found.value
    assert below.sum() >= min(len(values), int(np.ceil((len(values) + 1) * (1 - target) - 1e-9)))
    # and no float32 lies between the quantile and the rounded value
    reached = values[below].max()
    assert np.nextafter(np.float32(reached), np.float32(np.inf)) > found.value


def test_an_image_at_the_threshold_passes() -> None:
    assert rejected(np.array([1.0, 1.5, 2.0]), 1.5).tolist() == [False, False, True]


def test_the_value_is_short_and_rounded_up() -> None:
    assert deployed_threshold(np.array([1 / 3]), 0.5).value == 0.333333334
    assert deployed_threshold(np.array([-2 / 3]), 0.5).value == -0.666666666
    assert deployed_threshold(np.array([0.0]), 0.5).value == 0
