"""A comparison on the terminal."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.compare import formatting
from pipeline.compare.changes import Change
from pipeline.compare.comparison import MetricComparison
from pipeline.compare.diff import Diff
from pipeline.compare.flips import Flip
from pipeline.compare.sides import Key
from stages.detectors.registry import BASELINES

PARAMS_SHOWN = 12
STYLES = {"better": "green", "worse": "red", "not comparable": "yellow", "no interval": "yellow"}


def print_diff(
    diff: Diff, console: Console, *, detectors: Collection[str] = (), categories: Collection[str] = (), limit: int = 20
) -> None:
    """Print a comparison.

    Args:
        detectors, categories: print only these; none: all.
        limit: largest number of flips.
    """
    rows = formatting.select_rows(diff, detectors, categories)
    flips = formatting.select_flips(diff, detectors, categories)
    console.print(Text(f"A  {diff.a['title']}\nB  {diff.b['title']}", style="bold"))
    for line in formatting.describe_sides(diff):
        console.print(Text(line, style="yellow"))
    identical = formatting.identical_detectors(rows)
    shown = formatting.rows_to_show(rows)
    if shown:
        console.print()
        console.print(_metrics_table(shown))
    if identical:
        console.print(Text(f"\nthe same on both sides: {', '.join(map(str, identical))}"))
    for line in formatting.describe_reasons(rows):
        console.print(Text(line, style="yellow"))
    if any(row.interval for row in shown):
        console.print(
            Text(f"intervals: {diff.confidence:.0%}, of B - A, paired on the test images; p: DeLong", style="dim")
        )
    console.print()
    _print_params(diff.params, console)
    console.print(Text(f"data: {formatting.describe_data(diff.data)}"))
    console.print(Text(f"flips: {formatting.describe_flips(diff, flips)}"))
    _print_flips(flips, limit, console)


def _metrics_table(rows: Sequence[MetricComparison]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for name in ("", "figure"):
        table.add_column(name, no_wrap=True)
    for name in ("A", "B", "B - A", "interval", "p"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict")
    several_categories = len({row.category for row in rows}) > 1
    previous: Key | None = None
    for row in rows:
        name = str(row.key) if several_categories else row.detector
        table.add_row(
            Text("" if row.key == previous else name),
            formatting.METRIC_NAMES[row.metric],
            formatting.format_value(row.metric, row.a),
            formatting.format_value(row.metric, row.b),
            formatting.format_change(row.metric, row.difference),
            formatting.format_interval(row.metric, row.interval),
            formatting.format_p_value(row.p) if row.metric == "image_auroc" else "",
            Text(row.verdict, style=STYLES.get(row.verdict, "")),
            style="dim" if row.detector in BASELINES else None,
        )
        previous = row.key
    return table


def _print_params(changes: Sequence[Change], console: Console) -> None:
    console.print(Text(f"parameters: {'the same' if not changes else f'{len(changes)} changed'}"))
    for change in changes[:PARAMS_SHOWN]:
        old, new = formatting.format_parameter(change.a), formatting.format_parameter(change.b)
        console.print(Text(f"  {change.key}: {old} -> {new}"))
    if len(changes) > PARAMS_SHOWN:
        console.print(Text(f"  and {len(changes) - PARAMS_SHOWN} more"))


def _print_flips(flips: Sequence[Flip], limit: int, console: Console) -> None:
    if not flips or not limit:
        return
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 2), header_style="bold")
    for name in ("", "detector", "image"):
        table.add_column(name, overflow="fold")
    for name in ("score A", "cut", "score B", "cut"):
        table.add_column(name, justify="right", no_wrap=True)
    for flip in flips[:limit]:
        numbers = [f"{x:.4g}" for x in (flip.score_a, flip.threshold_a, flip.score_b, flip.threshold_b)]
        style = "red" if flip.worse else "green"
        table.add_row(Text(flip.kind, style=style), flip.detector, Text(flip.path), *numbers)
    console.print(table)
    if len(flips) > limit:
        console.print(Text(f"  and {len(flips) - limit} more (--limit {len(flips)}, or --json)"))
