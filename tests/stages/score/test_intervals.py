from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from stages.score import intervals, metrics
from tests.reference import score_metrics as reference

STATISTICS = {"auroc": metrics.auroc, "aupr": metrics.average_precision}


def plain_loop(scores: np.ndarray, labels: np.ndarray, resamples: int, seed: int) -> list[tuple[float, float]]:
    """The same resamples, image lists written out, each scored by the slow reference."""
    draws = [np.random.default_rng([seed, kind]) for kind in (1, 0)]
    results = []
    for _ in range(resamples):
        bad, good = (
            own[draw.integers(0, len(own), size=len(own))]
            for own, draw in zip((scores[labels], scores[~labels]), draws, strict=True)
        )
        both = np.concatenate([bad, good])
        truth = np.arange(len(both)) < len(bad)
        results.append((reference.auroc(both, truth), average_precision_score(truth, both)))
    return results


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 99), st.integers(1, 12), st.integers(1, 9), st.integers(1, 6))
def test_equals_a_plain_loop_over_the_same_resamples(seed: int, bad: int, good: int, levels: int) -> None:
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, levels, bad + good).astype(float)
    labels = generator.permutation(np.arange(bad + good) < bad)
    samples = intervals.bootstrap(scores, labels, np.arange(len(labels)), STATISTICS, 15, seed)
    assert np.allclose(np.column_stack([samples["auroc"], samples["aupr"]]), plain_loop(scores, labels, 15, seed))


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(3)
    scores, labels = generator.normal(size=31), np.arange(31) % 3 == 0
    whole = intervals.bootstrap(scores, labels, np.arange(len(labels)), STATISTICS, 50, 7)
    monkeypatch.setattr(intervals, "_CHUNK", 31 * 7)
    assert (
        intervals.bootstrap(scores, labels, np.arange(len(labels)), STATISTICS, 50, 7)["auroc"].tolist()
        == whole["auroc"].tolist()
    )


def test_resamples_are_paired_and_depend_on_the_seed() -> None:
    generator = np.random.default_rng(0)
    labels, scores = np.arange(60) < 30, generator.normal(size=60)
    plain, moved = (
        intervals.bootstrap(s, labels, np.arange(len(labels)), STATISTICS, 40, 1)["auroc"]
        for s in (scores, np.exp(scores))
    )
    assert plain.tolist() == moved.tolist()
    assert (
        plain.tolist()
        != intervals.bootstrap(scores, labels, np.arange(len(labels)), STATISTICS, 40, 2)["auroc"].tolist()
    )


def test_the_interval_is_about_as_wide_as_theory_says() -> None:
    generator = np.random.default_rng(5)
    labels = np.arange(400) < 200
    scores = generator.normal(size=400) + 1.2 * labels
    low, high = intervals.percentile_interval(
        intervals.bootstrap(scores, labels, np.arange(len(labels)), STATISTICS, 2000, 0)["auroc"], 0.95, 200
    )
    # Hanley & McNeil (Radiology 1982), eq. 2
    area = reference.auroc(scores, labels)
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    error = np.sqrt((area * (1 - area) + 199 * (q1 - area**2 + q2 - area**2)) / 200**2)
    assert low < area < high
    assert (high - low) / (2 * 1.96 * error) == pytest.approx(1, abs=0.12)


def rate(errors: int, total: int, confidence: float) -> list[float]:
    return intervals.rate_interval(np.arange(total) < errors, np.arange(total), confidence)


def test_wilson_values() -> None:
    # textbook: 10 of 20 at 95 % -> 0.2993 .. 0.7007; 0 of 10 -> 0 .. 0.2775
    assert rate(10, 20, 0.95) == pytest.approx([0.29930, 0.70070], abs=1e-5)
    assert rate(0, 10, 0.95) == pytest.approx([0, 0.27753], abs=1e-5)
    assert rate(10, 10, 0.95) == pytest.approx([1 - 0.27753, 1], abs=1e-5)
    narrow, wide = (rate(3, 10, c) for c in (0.5, 0.99))
    assert wide[0] < narrow[0] < 0.3 < narrow[1] < wide[1]
