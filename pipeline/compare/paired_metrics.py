"""Metrics computed from the predictions of both sides on the same images, with intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.compare.comparison import REASON_IDENTICAL, MetricComparison, make_comparison
from pipeline.compare.matching import MatchedImages
from pipeline.compare.sides import Key
from pipeline.project.gate_rules import PAIRED, RATES
from stages.paired import paired
from stages.paired.delong import delong


@dataclass(frozen=True)
class ComparisonSettings:
    """How differences are measured."""

    resamples: int
    """Bootstrap resamples."""
    confidence: float
    """Coverage of the intervals, 0 to 1."""
    seed: int
    common: bool
    """Whether to compare on the common images if the test sets differ."""


def area_differences(
    images: Mapping[Key, MatchedImages], settings: ComparisonSettings
) -> dict[Key, dict[str, paired.Difference]]:
    """Differences of AUROC and AUPR of all detectors. Detectors on the same images share their resamples.

    Detectors that are identical on both sides, or whose images are all good or all defective, are left out.
    """
    alike: dict[tuple[str, bytes, bytes], list[Key]] = {}
    for key, matched in images.items():
        if matched.labels.any() and not matched.labels.all() and not _identical(matched):
            alike.setdefault(matched.identity, []).append(key)
    differences: dict[Key, dict[str, paired.Difference]] = {}
    for keys in alike.values():
        scores = {key: (_scores(images[key].a), _scores(images[key].b)) for key in keys}
        first = images[keys[0]]
        differences |= paired.area_differences(
            scores, first.labels, first.groups, settings.resamples, settings.confidence, settings.seed
        )
    return differences


def compare_paired(
    key: Key, images: MatchedImages, areas: Mapping[str, paired.Difference] | None, confidence: float
) -> Iterator[MetricComparison]:
    """The paired metrics of a detector.

    Args:
        areas: what `area_differences` gives for this detector; None if it was left out.
        confidence: coverage of the intervals of rates.
    """
    labels, identical = images.labels, _identical(images)
    for metric in PAIRED:
        label = RATES[metric][0] if metric in RATES else None
        missing = _missing_class(labels, label) or (_missing_decisions(images) if metric in RATES else None)
        if missing is not None:
            yield make_comparison(key, metric, (None, None), "not comparable", missing)
        elif metric in RATES:
            yield _with_verdict(key, metric, _rate_difference(images, metric, confidence), None, identical)
        else:
            difference = _zero_area_difference(images, metric) if areas is None else areas[metric]
            test = (
                delong(_scores(images.a), _scores(images.b), labels, images.groups) if metric == "image_auroc" else None
            )
            yield _with_verdict(key, metric, difference, test.p if test else None, identical)


def _zero_area_difference(images: MatchedImages, metric: str) -> paired.Difference:
    value = paired.areas(_scores(images.a), images.labels)[metric]
    return paired.Difference(value, value, (0.0, 0.0))


def _rate_difference(images: MatchedImages, metric: str, confidence: float) -> paired.Difference:
    label, decision = RATES[metric]
    of_label = images.labels == bool(label)
    wrong_a, wrong_b = (
        (table["decision"].to_numpy(dtype=np.int64) == decision)[of_label] for table in (images.a, images.b)
    )
    return paired.rate_difference(wrong_a, wrong_b, images.groups[of_label], confidence)


def _with_verdict(
    key: Key, metric: str, difference: paired.Difference, p: float | None, identical: bool
) -> MetricComparison:
    interval = (0.0, 0.0) if identical else difference.interval  # identical results need no sampling
    values = (difference.a, difference.b)
    if interval is None:
        reason = "an interval needs two groups (without groups: two images) of each class"
        return make_comparison(key, metric, values, "no interval", reason)
    verdict = paired.verdict(metric, interval)
    return make_comparison(key, metric, values, verdict, REASON_IDENTICAL if identical else None, interval, p)


def _missing_class(labels: NDArray[np.bool_], label: int | None) -> str | None:
    """Which class has no image, in words; None if none is missing.

    Args:
        label: the class to look for (1: defect, 0: normal); None: both.
    """
    if not len(labels):
        return "no test image in common"
    for wanted, name in ((1, "defect"), (0, "normal")):
        if label in (None, wanted) and not (labels == bool(wanted)).any():
            return f"no {name} images among the compared images"
    return None


def _missing_decisions(images: MatchedImages) -> str | None:
    """Which side has no decisions, in words; None if both have."""
    for name, table in (("A", images.a), ("B", images.b)):
        if "decision" not in table:
            return f"the predictions of {name} are of another layout: no decisions"
        if table["decision"].isna().any():
            return f"{name} has no threshold, so there are no decisions"
    return None


def _scores(table: pd.DataFrame) -> NDArray[np.float64]:
    return table["image_score"].to_numpy(dtype=np.float64)


def _identical(images: MatchedImages) -> bool:
    """Whether both sides gave every common image the same score, threshold and decision."""
    columns = ["image_score", *(name for name in ("threshold", "decision") if name in images.a and name in images.b)]
    return all(images.a[name].reset_index(drop=True).equals(images.b[name].reset_index(drop=True)) for name in columns)
