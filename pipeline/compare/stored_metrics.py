"""Metrics as they stand in metrics.json of both sides, without intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.compare.comparison import UNPAIRED_METRICS, MetricComparison, make_comparison
from pipeline.compare.sides import Key
from pipeline.project.gate_rules import PAIRED


def compare_stored(
    key: Key, figures_a: Mapping[str, Any], figures_b: Mapping[str, Any], metrics: Sequence[str], reason: str
) -> Iterator[MetricComparison]:
    """Differences without intervals. Unpaired metrics that neither side has are left out.

    Args:
        figures_a, figures_b: this detector's metrics in metrics.json.
        reason: why there are no intervals.
    """
    for metric in metrics:
        values = (_number(figures_a.get(metric)), _number(figures_b.get(metric)))
        if None not in values:
            yield make_comparison(key, metric, values, "no interval", reason)
        elif metric in PAIRED or values != (None, None):
            yield make_comparison(key, metric, values, "not comparable", _why_missing(metric, figures_a, figures_b))


def list_without_comparing(
    key: Key, figures_a: Mapping[str, Any], figures_b: Mapping[str, Any], reason: str
) -> Iterator[MetricComparison]:
    """Each side's own values. Unpaired metrics that neither side has are left out.

    Args:
        figures_a, figures_b: this detector's metrics in metrics.json.
        reason: why they are not comparable.
    """
    for metric in (*PAIRED, *UNPAIRED_METRICS):
        values = (_number(figures_a.get(metric)), _number(figures_b.get(metric)))
        if metric in PAIRED or values != (None, None):
            yield make_comparison(key, metric, values, "not comparable", reason)


def different_test_counts(figures_a: Mapping[str, Any], figures_b: Mapping[str, Any]) -> str | None:
    """Why the test sets differ if their sizes do; None otherwise, although equal sizes do not prove equal images."""
    counts = [(figures.get("n_test_normal"), figures.get("n_test_defect")) for figures in (figures_a, figures_b)]
    if counts[0] == counts[1] or None in (*counts[0], *counts[1]):
        return None
    (normal_a, defect_a), (normal_b, defect_b) = counts
    return f"different images: {normal_a}+{defect_a} test images in A, {normal_b}+{defect_b} in B"


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def _why_missing(metric: str, figures_a: Mapping[str, Any], figures_b: Mapping[str, Any]) -> str:
    """Why a metric is missing in one or both metrics.json."""
    reasons = []
    for name, figures in (("A", figures_a), ("B", figures_b)):
        if metric not in figures:
            reasons.append(f"metrics.json of {name} is of another layout: no {metric}")
        elif figures[metric] is None:
            reasons.append(f"{name}: {(figures.get('reasons') or {}).get(metric, 'not defined')}")
    return "; ".join(reasons)
