"""When an exported detector's results are the detector's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from stages.onnx_graphs.parity import compare
from stages.types import ScoreMap


def maps(*planes: Sequence[float]) -> list[ScoreMap]:
    return [ScoreMap(np.array([plane], np.float32), float(max(plane))) for plane in planes]


def test_differences_are_shares_of_the_spread() -> None:
    result = compare(maps([0, 2], [4, 10]), maps([0, 3], [4, 10]), threshold=5.0, tolerance=0.01)
    assert (result.scores, result.maps, result.pixel) == pytest.approx((1 / 8, 0.05, 0.1))
    assert (result.images, result.decisions) == (2, 0)
    assert result.within(0.125)
    assert not result.within(0.12)


def test_a_decision_counts_unless_the_score_lies_at_the_threshold() -> None:
    ours, theirs = maps([0], [1.0], [2.0]), maps([0], [1.001], [2.0])
    assert compare(ours, theirs, threshold=1.0, tolerance=1e-3).decisions == 0
    assert compare(ours, theirs, threshold=1.0005, tolerance=1e-4).decisions == 1
    assert not compare(ours, theirs, threshold=1.0005, tolerance=1e-4).within(1.0)


def test_not_a_number_is_never_within() -> None:
    ours = maps([0, 1])
    for theirs in (maps([0, np.nan]), [replace(ours[0], image_score=np.nan)]):
        assert not compare(ours, theirs, None, 1.0).within(1e9)
