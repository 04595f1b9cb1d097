from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from stages.score import metrics
from tests.reference import score_metrics as reference

Sample = tuple[np.ndarray, np.ndarray]


@st.composite
def samples(draw: st.DrawFn, most: int = 40) -> Sample:
    """Scores with many ties, and labels of both classes."""
    count = draw(st.integers(2, most))
    scores = draw(st.lists(st.integers(-4, 4), min_size=count, max_size=count))
    labels = draw(st.lists(st.booleans(), min_size=count, max_size=count))
    labels[0], labels[1] = True, False
    return np.array(scores, float), np.array(labels)


def test_values_by_hand() -> None:
    # falling: 4 bad, 3 good, 2 bad + good tied, 1 good -> wins of (4): 3; of (2): 1 + 0.5
    curve = metrics.curve(np.array([4.0, 3, 2, 2, 1]), np.array([True, False, True, False, False]))
    assert curve.thresholds.tolist() == [4, 3, 2, 1]
    assert (curve.tp.tolist(), curve.fp.tolist()) == ([1, 1, 2, 2], [0, 1, 2, 3])
    assert metrics.auroc(curve.tp, curve.fp) == pytest.approx(4.5 / 6)
    assert metrics.average_precision(curve.tp, curve.fp) == pytest.approx(0.5 * 1 + 0.5 * 2 / 4)
    assert metrics.f1(curve.tp, curve.fp).tolist() == pytest.approx([2 / 3, 2 / 4, 4 / 6, 4 / 7])
    assert metrics.fpr_at_tpr(curve.tp, curve.fp, 0.95) == pytest.approx(2 / 3)
    assert metrics.fpr_at_tpr(curve.tp, curve.fp, 0.5) == 0


@settings(max_examples=50, deadline=None)
@given(samples())
def test_equals_scikit_learn_and_the_pairwise_reference(sample: Sample) -> None:
    scores, labels = sample
    curve = metrics.curve(scores, labels)
    assert metrics.auroc(curve.tp, curve.fp) == pytest.approx(reference.auroc(scores, labels))
    assert metrics.auroc(curve.tp, curve.fp) == pytest.approx(roc_auc_score(labels, scores))
    assert metrics.average_precision(curve.tp, curve.fp) == pytest.approx(average_precision_score(labels, scores))
    precision, recall, _ = precision_recall_curve(labels, scores)
    best = np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12))
    assert metrics.f1(curve.tp, curve.fp).max() == pytest.approx(best)
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    assert metrics.fpr_at_tpr(curve.tp, curve.fp, 0.95) == pytest.approx(fpr[np.argmax(tpr >= 0.95 - 1e-12)])


@given(samples(), st.floats(0.1, 10), st.floats(-5, 5))
def test_no_monotone_map_of_the_scores_changes_a_figure(sample: Sample, scale: float, offset: float) -> None:
    scores, labels = sample
    curves = [metrics.curve(values, labels) for values in (scores, scale * scores**3 + offset)]
    assert curves[0].tp.tolist() == curves[1].tp.tolist()
    assert curves[0].fp.tolist() == curves[1].fp.tolist()


@given(samples())
def test_swapping_the_classes_turns_auroc_around(sample: Sample) -> None:
    scores, labels = sample
    curve, swapped = metrics.curve(scores, labels), metrics.curve(scores, ~labels)
    assert metrics.auroc(curve.tp, curve.fp) == pytest.approx(1 - metrics.auroc(swapped.tp, swapped.fp))


@given(samples())
def test_roc_points_keep_the_area_with_corners_alone(sample: Sample) -> None:
    scores, labels = sample
    curve = metrics.curve(scores, labels)
    rows = metrics.roc_points(curve)
    fpr, tpr = ([row[key] for row in rows] for key in ("fpr", "tpr"))
    assert (fpr[0], tpr[0], rows[0]["threshold"], fpr[-1], tpr[-1]) == (0, 0, None, 1, 1)
    assert np.trapezoid(tpr, fpr) == pytest.approx(float(metrics.auroc(curve.tp, curve.fp)), abs=1e-5)


def test_long_roc_curves_are_thinned() -> None:
    generator = np.random.default_rng(0)
    labels = generator.random(5000) < 0.5
    curve = metrics.curve(generator.normal(size=5000) + labels, labels)
    rows = metrics.roc_points(curve, 200)
    assert 150 < len(rows) <= 200
    area = np.trapezoid([row["tpr"] for row in rows], [row["fpr"] for row in rows])
    assert area == pytest.approx(float(metrics.auroc(curve.tp, curve.fp)), abs=2e-3)
    assert (rows[0]["fpr"], rows[-1]["fpr"], rows[-1]["tpr"]) == (0, 1, 1)
    assert len(metrics.roc_points(metrics.curve(np.arange(400.0), np.arange(400) >= 200))) == 3  # corners alone
