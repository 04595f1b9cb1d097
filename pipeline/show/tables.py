"""The metrics of a run as a table: on the terminal, and as Markdown for a README.

`interval` is the AUROC's, `cut at` the deployed threshold, `leak` the share of good test images with a near-duplicate
among those that detectors learn from (`!`: more than allowed), `images` normal + defective test images.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from stages.detectors.registry import BASELINES

if TYPE_CHECKING:
    from rich.table import Table

Metrics = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""metrics.json: category -> detector -> figure -> value."""

DASH = "–"
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
)
NOT_ON_TERMINAL = frozenset({"FPR@95", "leak"})
"""So that a table without masks fits into 80 columns."""


def rows(metrics: Metrics) -> Iterator[tuple[bool, list[str]]]:
    """(is a floor, cells in the order of COLUMNS) of each detector; by category, best AUROC first, floors last."""
    for category, detectors in metrics.items():
        for name in sorted(detectors, key=lambda name: _rank(name, detectors[name])):
            values = detectors[name]
            floor = name in BASELINES
            figures = [_number(values.get(key), 3) for key in ("image_aupr", "f1_max")]
            rates = [_percent(values.get(key)) for key in ("fpr_at_95tpr", "escape_rate", "overkill_rate")]
            pixels = [_number(values.get(key), 3) for key in ("pixel_auroc", "aupro")]
            counts = f"{values.get('n_test_normal', DASH)}+{values.get('n_test_defect', DASH)}"
            threshold = values.get("threshold")
            leak = _percent(values.get("leak_fraction")) + ("!" if values.get("leak_note") else "")
            yield (
                floor,
                [
                    category,
                    f"{name} floor" if floor else name,
                    _number(values.get("image_auroc"), 3),
                    _interval(values.get("image_auroc_ci")),
                    *figures,
                    *rates,
                    DASH if threshold is None else f"{threshold:.4g}",
                    *pixels,
                    leak,
                    counts,
                ],
            )


def metrics_table(metrics: Metrics) -> Table:
    """For the terminal; columns in which nothing is defined are left out, floors are dim."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    found = list(rows(metrics))
    kept = [c for c in _columns([cells for _, cells in found]) if COLUMNS[c] not in NOT_ON_TERMINAL]
    for column in kept:
        table.add_column(COLUMNS[column], justify="left" if column < 2 else "right", no_wrap=column in (0, 1))
    for floor, cells in found:
        table.add_row(*(cells[column] for column in kept), style="dim" if floor else None)
    return table


def metrics_markdown(metrics: Metrics) -> str:
    """The same as a Markdown table, floors in italics."""
    found = list(rows(metrics))
    kept = _columns([cells for _, cells in found])
    lines = [
        "| " + " | ".join(COLUMNS[column] for column in kept) + " |",
        "| " + " | ".join("---" if column < 2 else "---:" for column in kept) + " |",
    ]
    for floor, cells in found:
        texts = [f"*{cells[column]}*" if floor and column == 1 else cells[column] for column in kept]
        lines.append("| " + " | ".join(texts) + " |")
    return "\n".join(lines) + "\n"


def _columns(lines: list[list[str]]) -> list[int]:
    """Columns that hold at least one figure; the first two always."""
    return [column for column in range(len(COLUMNS)) if column < 2 or any(cells[column] != DASH for cells in lines)]


def _rank(name: str, values: Mapping[str, Any]) -> tuple[bool, float, str]:
    auroc = values.get("image_auroc")
    return name in BASELINES, 1.0 if auroc is None else -auroc, name


def _number(value: float | None, digits: int) -> str:
    return DASH if value is None else f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return DASH if value is None else f"{100 * value:.1f}%"


def _interval(interval: Sequence[float] | None) -> str:
    return DASH if interval is None else f"{interval[0]:.2f}-{interval[1]:.2f}"
