"""The figures of two sides, row by row: difference, interval, and what that shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.compare.matching import Match
from pipeline.compare.sides import Key, Side
from pipeline.project.gate_rules import PAIRED, RATES
from stages.score import paired
from stages.score.delong import delong

Verdict = Literal["better", "worse", "no difference shown", "not comparable", "no interval"]
SAME = "the same scores and decisions"
"""The reason of rows that no image tells apart."""
ONE_SIDED = ("only in A", "only in B")
"""Reasons of rows of a detector that the other side does not have."""
PLAIN = ("pixel_auroc", "aupro")
"""Figures that image scores do not give: compared as they stand in metrics.json."""


@dataclass(frozen=True)
class Row:
    """One figure of one detector on one category."""

    category: str
    detector: str
    metric: str
    a: float | None
    b: float | None
    """Each on what is compared; where nothing can be compared, each on its own test images."""
    difference: float | None
    """B - A."""
    interval: tuple[float, float] | None
    p: float | None
    """Of DeLong's test; `image_auroc` alone."""
    verdict: Verdict
    reason: str | None
    """Why the verdict is no better; of `no difference shown`: that the scores are the same ones."""

    @property
    def label(self) -> str:
        """As gates and messages name it."""
        return f"{self.category}/{self.detector}:{self.metric}"


@dataclass(frozen=True)
class Sampling:
    """How differences are measured; `compare` says what each means."""

    resamples: int
    confidence: float
    seed: int
    common: bool


def rows_of(a: Side, b: Side, keys: Sequence[Key], pairs: Mapping[Key, Match], sampling: Sampling) -> Iterator[Row]:
    """Rows of all detectors, in the order of `keys`."""
    sound = {key: pair for key, pair in pairs.items() if sampling.common or pair.reason is None}
    areas = _areas(sound, sampling)
    for key in keys:
        old, new = a.metrics.get(key[0], {}).get(key[1], {}), b.metrics.get(key[0], {}).get(key[1], {})
        if key in sound:
            yield from _paired_rows(key, sound[key], areas.get(key), sampling.confidence)
            if not sampling.common:
                yield from _figures(key, old, new, PLAIN, "from metrics.json, where it has no interval")
        else:
            reason = pairs[key].reason if key in pairs else _only_in_one(a, b, key) or _other_counts(old, new)
            if reason is not None:
                yield from _own_rows(key, old, new, reason)
            else:
                yield from _figures(key, old, new, (*PAIRED, *PLAIN), _why_no_pairs(a, b, key))


def _areas(pairs: Mapping[Key, Match], sampling: Sampling) -> dict[Key, dict[str, paired.Difference]]:
    """AUROC and AUPR of all detectors; those on the same images share their resamples."""
    groups: dict[tuple[str, bytes], list[Key]] = {}
    for key, pair in pairs.items():
        if pair.labels.any() and not pair.labels.all() and not _same(pair):
            groups.setdefault(pair.identity, []).append(key)
    found: dict[Key, dict[str, paired.Difference]] = {}
    for members in groups.values():
        scores = {key: (_scores(pairs[key].a), _scores(pairs[key].b)) for key in members}
        labels = pairs[members[0]].labels
        found |= paired.area_differences(scores, labels, sampling.resamples, sampling.confidence, sampling.seed)
    return found


def _paired_rows(
    key: Key, pair: Match, areas: Mapping[str, paired.Difference] | None, confidence: float
) -> Iterator[Row]:
    """The figures that the same images give on both sides."""
    labels, same = pair.labels, _same(pair)
    for metric in PAIRED:
        label = RATES[metric][0] if metric in RATES else None
        missing = _missing(labels, label) or (_undecided(pair) if metric in RATES else None)
        if missing is not None:
            yield _row(key, metric, (None, None), "not comparable", missing)
        elif metric in RATES:
            yield _judged(key, metric, _rate(pair, metric, confidence), None, same)
        else:
            difference = _no_difference(pair, metric) if areas is None else areas[metric]
            test = delong(_scores(pair.a), _scores(pair.b), labels) if metric == "image_auroc" else None
            yield _judged(key, metric, difference, test.p if test else None, same)


def _no_difference(pair: Match, metric: str) -> paired.Difference:
    value = paired.areas(_scores(pair.a), pair.labels)[metric]
    return paired.Difference(value, value, (0.0, 0.0))


def _rate(pair: Match, metric: str, confidence: float) -> paired.Difference:
    label, decision = RATES[metric]
    chosen = pair.labels == bool(label)
    wrong_a, wrong_b = ((one["decision"].to_numpy(dtype=np.int64) == decision)[chosen] for one in (pair.a, pair.b))
    return paired.rate_difference(wrong_a, wrong_b, confidence)


def _judged(key: Key, metric: str, found: paired.Difference, p: float | None, same: bool) -> Row:
    if same:
        # one and the same model: no sampling is involved
        found = paired.Difference(found.a, found.b, (0.0, 0.0))
    if found.interval is None:
        return _row(key, metric, (found.a, found.b), "no interval", "an interval needs two test images of each class")
    verdict = paired.verdict(metric, found.interval)
    reason = SAME if same else None
    return _row(key, metric, (found.a, found.b), verdict, reason, found.interval, p)


def _row(
    key: Key,
    metric: str,
    values: tuple[float | None, float | None],
    verdict: Verdict,
    reason: str | None,
    interval: tuple[float, float] | None = None,
    p: float | None = None,
) -> Row:
    a, b = values
    difference = None if a is None or b is None or verdict == "not comparable" else b - a
    return Row(*key, metric, a, b, difference, interval, p, verdict, reason)


def _missing(labels: NDArray[np.bool_], label: int | None) -> str | None:
    """Which class is missing among the compared images: of all two, or the given one."""
    if not len(labels):
        return "no test image in common"
    for wanted, name in ((1, "defect"), (0, "normal")):
        if label in (None, wanted) and not (labels == bool(wanted)).any():
            return f"no {name} images among the compared ones"
    return None


def _undecided(pair: Match) -> str | None:
    for name, table in (("A", pair.a), ("B", pair.b)):
        if "decision" not in table:
            return f"the predictions of {name} are of another layout: no decisions"
        if table["decision"].isna().any():
            return f"{name} has no threshold, so it decided nothing"
    return None


def _scores(table: pd.DataFrame) -> NDArray[np.float64]:
    return table["image_score"].to_numpy(dtype=np.float64)


def _same(pair: Match) -> bool:
    """Whether both sides gave every common image the same score and decision."""
    columns = ["image_score", *(name for name in ("threshold", "decision") if name in pair.a and name in pair.b)]
    return all(pair.a[name].reset_index(drop=True).equals(pair.b[name].reset_index(drop=True)) for name in columns)


def _only_in_one(a: Side, b: Side, key: Key) -> str | None:
    there = [key in side.predictions or key[1] in side.metrics.get(key[0], {}) for side in (a, b)]
    return None if all(there) else ONE_SIDED[not there[0]]


def _why_no_pairs(a: Side, b: Side, key: Key) -> str:
    return "; ".join(
        f"predictions of {name}: {side.problems.get('predictions', 'none of this detector')}"
        for name, side in (("A", a), ("B", b))
        if key not in side.predictions
    )


def _figures(
    key: Key, old: Mapping[str, Any], new: Mapping[str, Any], metrics: Sequence[str], reason: str
) -> Iterator[Row]:
    """What metrics.json of both sides says, without intervals; those of PLAIN only where one side has them."""
    for metric in metrics:
        values = (_number(old.get(metric)), _number(new.get(metric)))
        if None not in values:
            yield _row(key, metric, values, "no interval", reason)
        elif metric in PAIRED or values != (None, None):
            yield _row(key, metric, values, "not comparable", _why_none(metric, old, new))


def _own_rows(key: Key, old: Mapping[str, Any], new: Mapping[str, Any], reason: str) -> Iterator[Row]:
    """Each side's own figure, and why they are not compared."""
    for metric in (*PAIRED, *PLAIN):
        values = (_number(old.get(metric)), _number(new.get(metric)))
        if metric in PAIRED or values != (None, None):
            yield _row(key, metric, values, "not comparable", reason)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def _why_none(metric: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Why a figure is missing in one or both metrics.json."""
    reasons = []
    for name, figures in (("A", old), ("B", new)):
        if metric not in figures:
            reasons.append(f"metrics.json of {name} has no {metric}: another layout")
        elif figures[metric] is None:
            reasons.append(f"{name}: {(figures.get('reasons') or {}).get(metric, 'not defined')}")
    return "; ".join(reasons)


def _other_counts(old: Mapping[str, Any], new: Mapping[str, Any]) -> str | None:
    """Test sets of another size are other images; of the same size they may be, too, but that cannot be seen here."""
    counts = [(one.get("n_test_normal"), one.get("n_test_defect")) for one in (old, new)]
    if counts[0] == counts[1] or None in (*counts[0], *counts[1]):
        return None
    (normal_a, defect_a), (normal_b, defect_b) = counts
    return f"other images: {normal_a}+{defect_a} test images in A, {normal_b}+{defect_b} in B"
