"""One metric of one detector, compared between two sides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.compare.sides import Key

Verdict = Literal["better", "worse", "no difference shown", "not comparable", "no interval"]
REASON_IDENTICAL = "the same scores and decisions"
"""Both sides gave every image the same score and decision."""
REASONS_ONE_SIDED = ("only in A", "only in B")
"""The other side does not have this detector."""
UNPAIRED_METRICS = ("pixel_auroc", "aupro")
"""Metrics that cannot be computed from image scores. Their values are taken from metrics.json, without intervals."""


@dataclass(frozen=True)
class MetricComparison:
    """One metric of one detector on one category."""

    category: str
    detector: str
    metric: str
    a: float | None
    b: float | None
    """Values on the compared images. If nothing can be compared, each value is on its side's own test images."""
    difference: float | None
    """B - A."""
    interval: tuple[float, float] | None
    """Confidence interval of the difference."""
    p: float | None
    """Of DeLong's test, for `image_auroc` only."""
    verdict: Verdict
    reason: str | None
    """Why there is no comparison or no interval; for identical sides, REASON_IDENTICAL."""

    @property
    def key(self) -> Key:
        return Key(self.category, self.detector)

    @property
    def label(self) -> str:
        """`category/detector:metric`, as in the rules of a gate."""
        return f"{self.key}:{self.metric}"

    @property
    def is_one_sided(self) -> bool:
        return self.reason in REASONS_ONE_SIDED


def make_comparison(
    key: Key,
    metric: str,
    values: tuple[float | None, float | None],
    verdict: Verdict,
    reason: str | None,
    interval: tuple[float, float] | None = None,
    p: float | None = None,
) -> MetricComparison:
    """A comparison with its difference, which is None if a value is missing or the values are not comparable."""
    a, b = values
    return MetricComparison(
        category=key.category,
        detector=key.detector,
        metric=metric,
        a=a,
        b=b,
        difference=None if a is None or b is None or verdict == "not comparable" else b - a,
        interval=interval,
        p=p,
        verdict=verdict,
        reason=reason,
    )
