"""The comparison of two sides: metrics with intervals and verdicts, what changed, and which images flipped."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pipeline.compare.changes import Change, DataChanges, changed_data, changed_params
from pipeline.compare.compare_metrics import compare_metrics
from pipeline.compare.comparison import MetricComparison
from pipeline.compare.flips import Flip, find_flips, worst_first
from pipeline.compare.matching import MatchedImages, match_images
from pipeline.compare.paired_metrics import ComparisonSettings
from pipeline.compare.sides import Key, Side
from pipeline.project.paths import METRICS
from stages.detectors.registry import BASELINES
from stages.fusion.members import FUSION
from stages.score.resamples import few_groups_note, groups_of_class
from stages.types import UserError

SCHEMA = 1
ROUNDING = 2e-6
"""Tolerance for values in metrics.json, which have six digits."""


@dataclass(frozen=True)
class Diff:
    """B compared with A. The fields are the keys of `burnish diff --json`."""

    a: Mapping[str, Any]
    b: Mapping[str, Any]
    """`name`, `commit`, `title`, `changed`, `problems`, `notes` of each side."""
    rows: tuple[MetricComparison, ...]
    params: tuple[Change, ...]
    data: DataChanges | str
    """A text says why the changes are not known."""
    flips: tuple[Flip, ...]
    """Of all detectors, worst first."""
    headline: Mapping[str, str]
    """Category -> the detector that decides, as in `burnish predict`: the fusion, else the first detector."""
    images: Mapping[str, int]
    """Category -> number of compared test images (of the detector with most)."""
    groups: Mapping[str, tuple[int, int]]
    """Category -> groups of good and of defective compared images, where images share groups (of that detector)."""
    few_groups: Mapping[str, str]
    """Category -> what few groups mean for its intervals."""
    differing: Mapping[str, str]
    """Category -> how its test sets differ; with `common`, what is left out."""
    confidence: float
    resamples: int
    common: bool

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"schema": SCHEMA, **asdict(self)}


def compare_sides(
    a: Side, b: Side, *, resamples: int = 2000, confidence: float = 0.95, seed: int = 0, common: bool = False
) -> Diff:
    """Compare B with A.

    Args:
        resamples, seed: of the bootstrap.
        confidence: coverage of the intervals, 0 to 1.
        common: if the test sets differ, compare on the test images that both sides have with the same label.

    Raises:
        UserError: the sides have no detector to compare.
    """
    keys = _keys(a, b)
    if not keys:
        raise UserError(f"{a.title} and {b.title} have no detector to compare")
    both = a.predictions.keys() & b.predictions.keys()
    images = {key: match_images(a.predictions[key], b.predictions[key], a, b) for key in keys if key in both}
    settings = ComparisonSettings(resamples=resamples, confidence=confidence, seed=seed, common=common)
    rows = tuple(compare_metrics(a, b, keys, images, settings))
    flips = (flip for key, matched in images.items() for flip in find_flips(key, matched))
    largest: dict[str, MatchedImages] = {}
    for key, matched in images.items():
        if key.category not in largest or len(matched.a) > len(largest[key.category].a):
            largest[key.category] = matched
    return Diff(
        a=_describe_side(a, None if common else {row.label: row.a for row in rows if row.interval}),
        b=_describe_side(b, None if common else {row.label: row.b for row in rows if row.interval}),
        rows=rows,
        params=changed_params(a.params, b.params),
        data=changed_data(a, b),
        flips=tuple(sorted(flips, key=worst_first)),
        headline=_headline(keys, b),
        images={
            category: len(largest[category].a) if category in largest else 0
            for category in dict.fromkeys(key.category for key in keys)
        },
        groups={
            category: groups_of_class(matched.labels, matched.groups)
            for category, matched in largest.items()
            if len(np.unique(matched.groups)) < len(matched.a)
        },
        few_groups={
            category: note
            for category, matched in largest.items()
            if (note := few_groups_note(matched.labels, matched.groups))
        },
        differing={key.category: matched.reason for key, matched in images.items() if matched.reason is not None},
        confidence=confidence,
        resamples=resamples,
        common=common,
    )


def _keys(a: Side, b: Side) -> list[Key]:
    """The detectors of both sides: by category, B's highest AUROC first, baselines last."""
    auroc: dict[Key, float] = {}
    for side in (a, b):
        for key in side.predictions:
            auroc.setdefault(key, 0.0)
        for category, detectors in side.metrics.items():
            for name, figures in detectors.items():
                auroc[Key(category, name)] = figures.get("image_auroc") or 0.0
    return sorted(auroc, key=lambda key: (key.category, key.detector in BASELINES, -auroc[key], key.detector))


def _headline(keys: list[Key], b: Side) -> dict[str, str]:
    """By category, the fusion; else the first of B's parameter `detectors`; else the first of `keys`."""
    headline = {}
    for category in dict.fromkeys(key.category for key in keys):
        names = [key.detector for key in keys if key.category == category]
        preferred = [FUSION, *(b.params.get("detectors") or ())]
        headline[category] = next((name for name in preferred if name in names), names[0])
    return headline


def _describe_side(side: Side, computed: Mapping[str, float | None] | None) -> dict[str, Any]:
    """What the output says of a side.

    Args:
        computed: metrics by label, computed from the side's predictions; a note tells if metrics.json differs from
            them. None: do not check.
    """
    notes = side.notes
    for label, value in (computed or {}).items():
        category, detector, metric = re.split("[/:]", label)
        stored = side.figures(Key(category, detector)).get(metric)
        if stored is not None and value is not None and abs(stored - value) > ROUNDING:
            note = f"{METRICS} and the predictions are from different runs: {label} is {stored:g} in {METRICS}"
            notes = (*notes, f"{note}, {value:.6g} by the predictions")
            break
    return {
        "name": side.name,
        "commit": side.commit,
        "title": side.title,
        "changed": side.changed_files,
        "notes": notes,
        "problems": dict(side.problems),
    }
