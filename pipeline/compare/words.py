"""Figures, changes and flips in words: what the terminal, Markdown and the page share."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

from pipeline.compare.changes import DataChanges, Images
from pipeline.compare.diff import Diff
from pipeline.compare.flips import KINDS, Flip
from pipeline.compare.rows import ONE_SIDED, SAME, Row
from pipeline.compare.sides import Key
from pipeline.project.gate_rules import RATES

NAMES = {
    "image_auroc": "AUROC",
    "image_aupr": "AUPR",
    "escape_rate": "escape",
    "overkill_rate": "overkill",
    "pixel_auroc": "pixel AUROC",
    "aupro": "AUPRO",
}
DASH = "–"


def value(metric: str, number: float | None) -> str:
    """`0.909`, or `22.0%` for a rate."""
    if number is None:
        return DASH
    return f"{100 * number:.1f}%" if metric in RATES else f"{number:.3f}"


def change(metric: str, number: float | None) -> str:
    """`+0.004`, or `+1.3 pp` (percentage points) for a rate."""
    if number is None:
        return DASH
    return f"{100 * number:+.1f} pp" if metric in RATES else f"{number:+.3f}"


def interval(metric: str, ends: tuple[float, float] | None) -> str:
    """`[-0.002, +0.010]`; of a rate in percentage points."""
    if ends is None:
        return DASH
    scale, digits = (100, 1) if metric in RATES else (1, 3)
    return f"[{scale * ends[0]:+.{digits}f}, {scale * ends[1]:+.{digits}f}]"


def p_value(p: float | None) -> str:
    if p is None:
        return DASH
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def json_value(thing: Any) -> str:
    """A parameter as in YAML's flow style; missing: a dash."""
    return DASH if thing is None else json.dumps(thing, ensure_ascii=False).strip('"')


def selected(diff: Diff, detectors: Collection[str], categories: Collection[str]) -> list[Row]:
    """Rows of the chosen detectors and categories; none chosen: all."""
    return [
        row
        for row in diff.rows
        if (not detectors or row.detector in detectors) and (not categories or row.category in categories)
    ]


def selected_flips(diff: Diff, detectors: Collection[str], categories: Collection[str]) -> list[Flip]:
    """Flips of the chosen detectors and categories; none chosen: all."""
    return [
        flip
        for flip in diff.flips
        if (not detectors or flip.detector in detectors) and (not categories or flip.category in categories)
    ]


def unchanged(rows: Sequence[Row]) -> list[Key]:
    """Category and detector of those that said the same of every image on both sides, in order."""
    moved = {(row.category, row.detector) for row in rows if row.reason != SAME and row.difference != 0}
    same = dict.fromkeys((row.category, row.detector) for row in rows if row.reason == SAME)
    return [key for key in same if key not in moved]


def compared(rows: Sequence[Row]) -> list[Row]:
    """Rows worth a line: without detectors that are the same on both sides, or on one side alone."""
    same = unchanged(rows)
    return [row for row in rows if (row.category, row.detector) not in same and not _one_sided(row)]


def _one_sided(row: Row) -> bool:
    return row.reason in ONE_SIDED


def reasons(rows: Sequence[Row]) -> list[str]:
    """Why rows are not comparable or have no interval, one line a reason, with who it is about."""
    about: dict[str, dict[str, None]] = {}
    same = unchanged(rows)
    rows = [row for row in rows if (row.category, row.detector) not in same]
    for row in rows:
        if _one_sided(row):
            if row.metric == "image_auroc":
                area = value(row.metric, row.b if row.a is None else row.a)
                about.setdefault(str(row.reason), {})[f"{row.category}/{row.detector} (AUROC {area})"] = None
        elif row.reason is not None and row.verdict in ("not comparable", "no interval"):
            about.setdefault(row.reason, {})[f"{row.category}/{row.detector}"] = None
    every = {f"{row.category}/{row.detector}" for row in rows if not _one_sided(row)}
    return [
        f"{'all detectors' if set(names) == every else ', '.join(names)}: {reason}" for reason, names in about.items()
    ]


def notes(diff: Diff) -> list[str]:
    """What is to be known of the sides, and why something of them cannot be had."""
    lines = []
    for letter, side in (("A", diff.a), ("B", diff.b)):
        changed = side["changed"]
        if changed:
            more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
            lines.append(f"{letter} has changes that are not committed: {', '.join(changed[:5])}{more}")
        lines += [f"{letter}: {note}" for note in side["notes"]]
        lines += [f"{letter} has no {kind}: {why}" for kind, why in side["problems"].items()]
    if any("predictions" in side["problems"] for side in (diff.a, diff.b)):
        lines.append("so figures are compared as metrics.json has them, without intervals")
    if diff.common:
        for category, count in diff.images.items():
            left_out = diff.differing.get(category, "the test sets are the same")
            lines.append(f"{category}: compared on the {count} test images in common ({left_out})")
    elif diff.differing:
        counts = ", ".join(f"{category}: {diff.images[category]}" for category in diff.differing)
        lines.append(f"--common compares on the test images that both have with the same label ({counts})")
    return lines


def data(changes: DataChanges | str) -> str:
    """One line on the images."""
    if isinstance(changes, str):
        return f"not known ({changes})"
    if not changes.any:
        return f"the same {changes.total_b} images, labels and split"
    kinds = (("added", changes.added), ("removed", changes.removed), ("relabelled", changes.relabelled))
    parts = [_images(name, one) for name, one in (*kinds, ("moved to another split", changes.moved)) if one.count]
    return f"{changes.total_a} -> {changes.total_b} images: " + "; ".join(parts)


def _images(name: str, images: Images) -> str:
    more = ", ..." if images.count > len(images.first) else ""
    return f"{images.count} {name} ({', '.join(images.first)}{more})"


def flips_line(diff: Diff, flips: Sequence[Flip]) -> str:
    """`2 newly missed defects, 1 new false alarm`, or why there is nothing to say."""
    if not any(diff.images.values()):
        return "not known: no test image of which both sides have predictions"
    if not flips:
        return "no decision changed"
    counts = Counter(flip.kind for flip in flips)
    return ", ".join(
        f"{counts[one]} {one if counts[one] == 1 else _plural(one)}" for one in KINDS.values() if counts[one]
    )


def _plural(kind: str) -> str:
    return kind.replace("defect", "defects").replace("alarm", "alarms")


def verdict_line(diff: Diff) -> list[str]:
    """A line a category: what the headline detector's figures show."""
    lines = []
    for category, detector in diff.headline.items():
        rows = [row for row in diff.rows if (row.category, row.detector) == (category, detector)]
        if rows and _one_sided(rows[0]):
            lines.append(f"{category}/{detector}: {rows[0].reason}, so nothing to compare it with")
            continue
        parts = [_in_words(row) for row in rows if row.metric in ("image_auroc", *RATES)]
        lines.append(f"{category}/{detector}: {'; '.join(parts)}")
    return lines


def _in_words(row: Row) -> str:
    name = NAMES[row.metric]
    if row.difference is None:
        return f"{name} {row.verdict}"
    ends = f" {interval(row.metric, row.interval)}" if row.interval else ""
    return f"{name} {change(row.metric, row.difference)}{ends}, {row.verdict}"
