from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.report.charts import RocData, roc_chart, score_chart, ticks
from pipeline.show import curves


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (17.1, 91.1, [20, 40, 60, 80]),
        (-0.4, 8.7, [0, 2, 4, 6, 8]),
        (0, 0.0086, [0, 0.002, 0.004, 0.006, 0.008]),
    ],
)
def test_ticks_by_hand(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == expected


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e6))
def test_ticks_are_inside_few_and_even(low: float, width: float) -> None:
    found = ticks(low, low + width)
    assert 1 < len(found) <= 6
    assert all(low - width * 1e-6 <= value <= low + width * (1 + 1e-6) for value in found)
    assert np.allclose(np.diff(found), found[1] - found[0])


def test_histogram_by_hand() -> None:
    rows = curves.histogram_rows(np.array([0.0, 1.0, 1.0, 4.0]), np.array([0, 0, 1, 1]), bins=2)
    chart = score_chart("ear", False, rows, 3.0)
    assert chart is not None
    # scores 0..4 map to 44..342, shares 0..1 to 184..10; both good images are in the left bin, one defect is in each
    assert [(bars.label, bars.count, bars.path) for bars in chart.bars] == [
        ("normal", 2, "M44.0,184.0V10.0H193.0V184.0H342.0V184.0Z"),
        ("defect", 2, "M44.0,184.0V97.0H193.0V97.0H342.0V184.0Z"),
    ]
    assert chart.threshold is not None
    assert (chart.threshold.position, chart.threshold.text) == (267.5, "3")


def test_a_threshold_beyond_all_scores_is_inside_the_chart() -> None:
    rows = curves.histogram_rows(np.array([0.0, 1.0]), np.array([0, 1]))
    for threshold, at in ((-1.0, 44), (3.0, 342)):
        chart = score_chart("ear", False, rows, threshold)
        assert chart is not None
        assert chart.threshold is not None
        assert chart.threshold.position == at


def test_a_class_without_images_has_no_bars() -> None:
    rows = curves.histogram_rows(np.array([0.0, 1.0]), np.array([1, 1]))
    chart = score_chart("ear", False, rows, None)
    assert chart is not None
    assert [bars.label for bars in chart.bars] == ["defect"]
    assert chart.threshold is None
    assert score_chart("ear", False, [], None) is None


def test_roc_by_hand() -> None:
    points = curves.roc_rows(np.array([4.0, 3, 2, 1]), np.array([1, 0, 1, 0]))
    chart = roc_chart(
        [
            RocData("ear", False, points, (0.5, 1.0), "0.75"),
            RocData("pca", True, points, None, ""),
            RocData("x", False, [], None, ""),
        ]
    )
    assert chart is not None
    assert [(curve.name, curve.css_class, curve.threshold_point) for curve in chart.curves] == [
        ("ear", "detector0", (193.0, 10.0)),
        ("pca", "baseline0", None),
    ]
    assert chart.curves[0].path == "M44.0,308.0 44.0,159.0 193.0,159.0 193.0,10.0 342.0,10.0"
    assert roc_chart([RocData("ear", False, [], None, "")]) is None


def test_colours_start_again() -> None:
    points = curves.roc_rows(np.array([1.0, 0]), np.array([1, 0]))
    chart = roc_chart([RocData(str(i), False, points, None, "") for i in range(7)])
    assert chart is not None
    assert [curve.css_class for curve in chart.curves][-2:] == ["detector5", "detector0"]
