"""The metrics of a run as a table: for the terminal, and as Markdown.

| column | meaning |
| --- | --- |
| interval | Confidence interval of the AUROC |
| cut at | The deployed threshold |
| leak | Share of the good test images that have a near-duplicate in training or validation (`!`: above the limit) |
| images | Good + defective test images |
| groups | Groups that they come from, if related images share groups (`!`: fewer than ten) |
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from stages.detectors.registry import BASELINES

if TYPE_CHECKING:
    from rich.table import Table

Metrics = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""metrics.json: category -> detector -> metric -> value."""

DASH = "–"
BASELINE_MARK = " (baseline)"
"""Follows the name of a baseline."""
COLUMNS = (
    "category",
    "detector",
    "AUROC",
    "interval",
    "AUPR",
    "F1",
    "FPR@95",
    "escape",
    "overkill",
    "cut at",
    "pixel AUROC",
    "AUPRO",
    "leak",
    "images",
    "groups",
)
NOT_ON_TERMINAL = frozenset({"FPR@95", "leak"})
"""Left out on the terminal, so that a table without pixel metrics fits into 80 columns."""


def metric_rows(metrics: Metrics) -> Iterator[tuple[bool, list[str]]]:
    """(whether it is a baseline, cells in the order of COLUMNS) of each detector.

    Rows are sorted by category (in the order of `metrics`), then detectors before baselines, then by AUROC, best first.
    """
    for category, detectors in metrics.items():
        for name in sorted(detectors, key=lambda name: _rank(name, detectors[name])):
            values = detectors[name]
            is_baseline = name in BASELINES
            class_metrics = [_number(values.get(key), 3) for key in ("image_aupr", "f1_max")]
            rates = [_percent(values.get(key)) for key in ("fpr_at_95tpr", "escape_rate", "overkill_rate")]
            pixel_metrics = [_number(values.get(key), 3) for key in ("pixel_auroc", "aupro")]
            counts = f"{values.get('n_test_normal', DASH)}+{values.get('n_test_defect', DASH)}"
            threshold = values.get("threshold")
            near_duplicates = _percent(values.get("leak_fraction")) + ("!" if values.get("leak_note") else "")
            yield (
                is_baseline,
                [
                    category,
                    f"{name}{BASELINE_MARK}" if is_baseline else name,
                    _number(values.get("image_auroc"), 3),
                    _interval(values.get("image_auroc_ci")),
                    *class_metrics,
                    *rates,
                    DASH if threshold is None else f"{threshold:.4g}",
                    *pixel_metrics,
                    near_duplicates,
                    counts,
                    _groups(values),
                ],
            )


def metrics_table(metrics: Metrics) -> Table:
    """The table for the terminal, with dim baselines. Columns without any value are left out."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    rows = list(metric_rows(metrics))
    columns = [column for column in _columns([cells for _, cells in rows]) if COLUMNS[column] not in NOT_ON_TERMINAL]
    for column in columns:
        # On a narrow terminal the mark of a baseline goes to a second line, and every value stays whole.
        table.add_column(COLUMNS[column], justify="left" if column < 2 else "right", no_wrap=column == 0)
    for is_baseline, cells in rows:
        table.add_row(*(cells[column] for column in columns), style="dim" if is_baseline else None)
    return table


def metrics_markdown(metrics: Metrics) -> str:
    """The same as a Markdown table, with the names of baselines in italics."""
    rows = list(metric_rows(metrics))
    columns = _columns([cells for _, cells in rows])
    lines = [
        "| " + " | ".join(COLUMNS[column] for column in columns) + " |",
        "| " + " | ".join("---" if column < 2 else "---:" for column in columns) + " |",
    ]
    for is_baseline, cells in rows:
        texts = [f"*{cells[column]}*" if is_baseline and column == 1 else cells[column] for column in columns]
        lines.append("| " + " | ".join(texts) + " |")
    return "\n".join(lines) + "\n"


def _columns(rows: list[list[str]]) -> list[int]:
    """Indices of the first two columns, and of each other column that holds a value."""
    return [column for column in range(len(COLUMNS)) if column < 2 or any(cells[column] != DASH for cells in rows)]


def _rank(name: str, values: Mapping[str, Any]) -> tuple[bool, float, str]:
    """Sort key: detectors before baselines, then the best AUROC, then the name."""
    auroc = values.get("image_auroc")
    return name in BASELINES, 1.0 if auroc is None else -auroc, name


def _number(value: float | None, digits: int) -> str:
    return DASH if value is None else f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return DASH if value is None else f"{100 * value:.1f}%"


def _groups(values: Mapping[str, Any]) -> str:
    """Groups of the good + of the defective test images; a dash if each image is its own group."""
    counts = [(values.get(f"n_groups_{kind}"), values.get(f"n_test_{kind}")) for kind in ("normal", "defect")]
    if all(groups == images for groups, images in counts) or None in (groups for groups, _ in counts):
        return DASH
    return "+".join(str(groups) for groups, _ in counts) + ("!" if values.get("groups_note") else "")


def _interval(interval: Sequence[float] | None) -> str:
    return DASH if interval is None else f"{interval[0]:.2f}-{interval[1]:.2f}"
