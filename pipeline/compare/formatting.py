"""Metrics, changes and flips as text, shared by the terminal, Markdown and HTML."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

from pipeline.compare.changes import DataChanges, Images
from pipeline.compare.comparison import REASON_IDENTICAL, MetricComparison
from pipeline.compare.diff import Diff
from pipeline.compare.flips import KINDS, Flip
from pipeline.compare.sides import Key
from pipeline.project.gate_rules import RATES

METRIC_NAMES = {
    "image_auroc": "AUROC",
    "image_aupr": "AUPR",
    "escape_rate": "escape",
    "overkill_rate": "overkill",
    "pixel_auroc": "pixel AUROC",
    "aupro": "AUPRO",
}
DASH = "–"


def format_value(metric: str, value: float | None) -> str:
    """`0.909`; a rate as `22.0%`."""
    if value is None:
        return DASH
    return f"{100 * value:.1f}%" if metric in RATES else f"{value:.3f}"


def format_change(metric: str, change: float | None) -> str:
    """`+0.004`; a rate as `+1.3 pp` (percentage points)."""
    if change is None:
        return DASH
    return f"{100 * change:+.1f} pp" if metric in RATES else f"{change:+.3f}"


def format_interval(metric: str, interval: tuple[float, float] | None) -> str:
    """`[-0.002, +0.010]`; of a rate in percentage points."""
    if interval is None:
        return DASH
    scale, digits = (100, 1) if metric in RATES else (1, 3)
    return f"[{scale * interval[0]:+.{digits}f}, {scale * interval[1]:+.{digits}f}]"


def format_p_value(p: float | None) -> str:
    if p is None:
        return DASH
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def format_parameter(value: Any) -> str:
    """A parameter in YAML's flow style; a dash if it is missing."""
    return DASH if value is None else json.dumps(value, ensure_ascii=False).strip('"')


def select_rows(diff: Diff, detectors: Collection[str], categories: Collection[str]) -> list[MetricComparison]:
    """Rows of the chosen detectors and categories; none chosen: all."""
    return [row for row in diff.rows if _chosen(row, detectors, categories)]


def select_flips(diff: Diff, detectors: Collection[str], categories: Collection[str]) -> list[Flip]:
    """Flips of the chosen detectors and categories; none chosen: all."""
    return [flip for flip in diff.flips if _chosen(flip, detectors, categories)]


def _chosen(entry: MetricComparison | Flip, detectors: Collection[str], categories: Collection[str]) -> bool:
    in_detectors = not detectors or entry.detector in detectors
    return in_detectors and (not categories or entry.category in categories)


def identical_detectors(rows: Sequence[MetricComparison]) -> list[Key]:
    """Detectors that gave every image the same score and decision on both sides, in order."""
    differing = {row.key for row in rows if row.reason != REASON_IDENTICAL and row.difference != 0}
    identical = dict.fromkeys(row.key for row in rows if row.reason == REASON_IDENTICAL)
    return [key for key in identical if key not in differing]


def rows_to_show(rows: Sequence[MetricComparison]) -> list[MetricComparison]:
    """Rows without the detectors that are identical on both sides or exist on one side only."""
    identical = identical_detectors(rows)
    return [row for row in rows if row.key not in identical and not row.is_one_sided]


def describe_reasons(rows: Sequence[MetricComparison]) -> list[str]:
    """Why rows are not comparable or have no interval: one line per reason, with the detectors it is about."""
    detectors: dict[str, dict[str, None]] = {}
    identical = identical_detectors(rows)
    rows = [row for row in rows if row.key not in identical]
    for row in rows:
        if row.is_one_sided:
            if row.metric == "image_auroc":
                auroc = format_value(row.metric, row.b if row.a is None else row.a)
                detectors.setdefault(str(row.reason), {})[f"{row.key} (AUROC {auroc})"] = None
        elif row.reason is not None and row.verdict in ("not comparable", "no interval"):
            detectors.setdefault(row.reason, {})[str(row.key)] = None
    on_both_sides = {str(row.key) for row in rows if not row.is_one_sided}
    return [
        f"{'all detectors' if set(names) == on_both_sides else ', '.join(names)}: {reason}"
        for reason, names in detectors.items()
    ]


def describe_sides(diff: Diff) -> list[str]:
    """What the reader must know about the sides, and which parts of them cannot be read."""
    lines = []
    for letter, side in (("A", diff.a), ("B", diff.b)):
        changed = side["changed"]
        if changed:
            more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
            lines.append(f"{letter} has uncommitted changes: {', '.join(changed[:5])}{more}")
        lines += [f"{letter}: {note}" for note in side["notes"]]
        lines += [f"{letter} has no {part}: {why}" for part, why in side["problems"].items()]
    if any("predictions" in side["problems"] for side in (diff.a, diff.b)):
        lines.append("without predictions, the values in metrics.json are compared, without intervals")
    for category, (good, defective) in diff.groups.items():
        note = diff.few_groups.get(category)
        lines.append(
            f"{category}: {note}"
            if note
            else f"{category}: intervals by groups of related images: {good} of good images, {defective} of defects"
        )
    if diff.common:
        for category, count in diff.images.items():
            left_out = diff.differing.get(category, "the test sets are the same")
            lines.append(f"{category}: compared on the {count} test images in common ({left_out})")
    elif diff.differing:
        counts = ", ".join(f"{category}: {diff.images[category]}" for category in diff.differing)
        lines.append(f"--common compares on the test images that both sides have with the same label ({counts})")
    return lines


def describe_data(changes: DataChanges | str) -> str:
    """What changed in the data set, in one line."""
    if isinstance(changes, str):
        return f"not known ({changes})"
    if not changes.any:
        return f"the same {changes.total_b} images, labels and split"
    kinds = {
        "added": changes.added,
        "removed": changes.removed,
        "relabelled": changes.relabelled,
        "moved to another split": changes.moved,
    }
    parts = [_describe_images(kind, images) for kind, images in kinds.items() if images.count]
    return f"{changes.total_a} -> {changes.total_b} images: " + "; ".join(parts)


def _describe_images(kind: str, images: Images) -> str:
    more = ", ..." if images.count > len(images.first) else ""
    return f"{images.count} {kind} ({', '.join(images.first)}{more})"


def describe_flips(diff: Diff, flips: Sequence[Flip]) -> str:
    """`2 newly missed defects, 1 new false alarm`, or why there is no flip."""
    if not any(diff.images.values()):
        return "not known: no test image has predictions on both sides"
    if not flips:
        return "no decision changed"
    counts = Counter(flip.kind for flip in flips)
    kinds = [kind for kind in KINDS.values() if counts[kind]]
    return ", ".join(f"{counts[kind]} {kind if counts[kind] == 1 else _plural(kind)}" for kind in kinds)


def _plural(kind: str) -> str:
    return kind.replace("defect", "defects").replace("alarm", "alarms")


def headline_verdicts(diff: Diff) -> list[str]:
    """One line per category: the verdicts on the headline detector."""
    lines = []
    for category, detector in diff.headline.items():
        key = Key(category, detector)
        rows = [row for row in diff.rows if row.key == key]
        if rows and rows[0].is_one_sided:
            lines.append(f"{key}: {rows[0].reason}, so it cannot be compared")
            continue
        parts = [_describe_row(row) for row in rows if row.metric in ("image_auroc", *RATES)]
        lines.append(f"{key}: {'; '.join(parts)}")
    return lines


def _describe_row(row: MetricComparison) -> str:
    name = METRIC_NAMES[row.metric]
    if row.difference is None:
        return f"{name} {row.verdict}"
    interval = f" {format_interval(row.metric, row.interval)}" if row.interval else ""
    return f"{name} {format_change(row.metric, row.difference)}{interval}, {row.verdict}"
