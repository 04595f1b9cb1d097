"""Two sides compared: every figure with its interval and a verdict, what changed, and which images flipped."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.compare.changes import Change, DataChanges, changed_data, changed_params
from pipeline.compare.flips import Flip, flips_of, worst_first
from pipeline.compare.matching import match
from pipeline.compare.rows import Row, Sampling, rows_of
from pipeline.compare.sides import Key, Side
from pipeline.project.paths import METRICS
from stages.detectors.registry import BASELINES
from stages.fusion.members import FUSION
from stages.types import UserError

SCHEMA = 1
ROUNDING = 2e-6
"""Figures in metrics.json have six digits."""


@dataclass(frozen=True)
class Diff:
    """B compared with A."""

    a: Mapping[str, Any]
    b: Mapping[str, Any]
    """`name`, `commit`, `title`, `changed`, `problems`, `notes` of each side."""
    rows: tuple[Row, ...]
    params: tuple[Change, ...]
    data: DataChanges | str
    """A text: why it cannot be told."""
    flips: tuple[Flip, ...]
    """Of all detectors, worst first."""
    headline: Mapping[str, str]
    """Category -> the detector whose verdict counts, as in `burnish predict`: the fusion, else the first."""
    images: Mapping[str, int]
    """Category -> test images that are compared (of the detector that has most)."""
    differing: Mapping[str, str]
    """Category -> in what its test sets differ; with `common`: what is left out."""
    confidence: float
    resamples: int
    common: bool

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"schema": SCHEMA, **asdict(self)}


def compare(
    a: Side, b: Side, *, resamples: int = 2000, confidence: float = 0.95, seed: int = 0, common: bool = False
) -> Diff:
    """B against A.

    Args:
        resamples, confidence, seed: of the bootstrap.
        common: compare on the test images that both sides have with the same label, although their test sets differ.

    Raises:
        UserError: the sides have no category and detector to compare.
    """
    keys = _keys(a, b)
    if not keys:
        raise UserError(f"{a.title} and {b.title} have no detector to compare")
    both = a.predictions.keys() & b.predictions.keys()
    pairs = {key: match(a.predictions[key], b.predictions[key], a, b) for key in keys if key in both}
    counts = {category: [len(pairs[key].a) for key in pairs if key[0] == category] for category, _ in keys}
    rows = tuple(rows_of(a, b, keys, pairs, Sampling(resamples, confidence, seed, common)))
    return Diff(
        a=_about(a, None if common else {row.label: row.a for row in rows if row.interval}),
        b=_about(b, None if common else {row.label: row.b for row in rows if row.interval}),
        rows=rows,
        params=changed_params(a.params, b.params),
        data=changed_data(a, b),
        flips=tuple(sorted((flip for key, pair in pairs.items() for flip in flips_of(key, pair)), key=worst_first)),
        headline=_headline(keys, b),
        images={category: max(found, default=0) for category, found in counts.items()},
        differing={category: pair.reason for (category, _), pair in pairs.items() if pair.reason is not None},
        confidence=confidence,
        resamples=resamples,
        common=common,
    )


def _keys(a: Side, b: Side) -> list[Key]:
    """Category and detector of either side; by category, the best of B first, floors last."""
    found: dict[Key, float] = {}
    for side in (a, b):
        for key in side.predictions:
            found.setdefault(key, 0.0)
        for category, detectors in side.metrics.items():
            for name, figures in detectors.items():
                found[category, name] = figures.get("image_auroc") or 0.0
    return sorted(found, key=lambda key: (key[0], key[1] in BASELINES, -found[key], key[1]))


def _headline(keys: list[Key], b: Side) -> dict[str, str]:
    """The fusion, else the first of the parameter `detectors` of B, else the best there is."""
    found = {}
    for category in dict.fromkeys(category for category, _ in keys):
        names = [name for one, name in keys if one == category]
        preferred = [FUSION, *(b.params.get("detectors") or ())]
        found[category] = next((name for name in preferred if name in names), names[0])
    return found


def _about(side: Side, computed: Mapping[str, float | None] | None) -> dict[str, Any]:
    """What is told of a side; `computed`: figures from its predictions, by label, which its metrics must agree with."""
    about = {name: getattr(side, name) for name in ("name", "commit", "title", "changed", "notes")}
    for label, value in (computed or {}).items():
        category, detector, metric = re.split("[/:]", label)
        kept = side.metrics.get(category, {}).get(detector, {}).get(metric)
        if kept is not None and value is not None and abs(kept - value) > ROUNDING:
            note = f"{METRICS} and the predictions are not of one run: {label} is {kept:g} there, {value:.6g} by these"
            about["notes"] = (*about["notes"], note)
            break
    return about | {"problems": dict(side.problems)}
