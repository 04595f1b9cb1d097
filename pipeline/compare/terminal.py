"""A comparison on the terminal."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.compare import words
from pipeline.compare.changes import Change
from pipeline.compare.diff import Diff
from pipeline.compare.flips import Flip
from pipeline.compare.rows import Row
from stages.detectors.registry import BASELINES

PARAMS_SHOWN = 12
STYLES = {"better": "green", "worse": "red", "not comparable": "yellow", "no interval": "yellow"}


def show(
    diff: Diff, console: Console, *, detectors: Collection[str] = (), categories: Collection[str] = (), limit: int = 20
) -> None:
    """Print it all; `detectors` and `categories` narrow it, `limit` bounds the flips."""
    rows = words.selected(diff, detectors, categories)
    flips = words.selected_flips(diff, detectors, categories)
    console.print(Text(f"A  {diff.a['title']}\nB  {diff.b['title']}", style="bold"))
    for line in words.notes(diff):
        console.print(Text(line, style="yellow"))
    same = words.unchanged(rows)
    moved = words.compared(rows)
    if moved:
        console.print()
        console.print(_figures(moved))
    if same:
        console.print(Text(f"\nthe same on both sides: {', '.join('/'.join(key) for key in same)}"))
    for line in words.reasons(rows):
        console.print(Text(line, style="yellow"))
    if any(row.interval for row in moved):
        console.print(
            Text(f"intervals: {diff.confidence:.0%}, of B - A, paired on the test images; p: DeLong", style="dim")
        )
    console.print()
    _params(diff.params, console)
    console.print(Text(f"data: {words.data(diff.data)}"))
    console.print(Text(f"flips: {words.flips_line(diff, flips)}"))
    _flips(flips, limit, console)


def _figures(rows: Sequence[Row]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for name in ("", "figure"):
        table.add_column(name, no_wrap=True)
    for name in ("A", "B", "B - A", "interval", "p"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict")
    several = len({row.category for row in rows}) > 1
    before = ("", "")
    for row in rows:
        key, metric = (row.category, row.detector), row.metric
        name = f"{row.category}/{row.detector}" if several else row.detector
        table.add_row(
            Text("" if key == before else name),
            words.NAMES[metric],
            words.value(metric, row.a),
            words.value(metric, row.b),
            words.change(metric, row.difference),
            words.interval(metric, row.interval),
            words.p_value(row.p) if metric == "image_auroc" else "",
            Text(row.verdict, style=STYLES.get(row.verdict, "")),
            style="dim" if row.detector in BASELINES else None,
        )
        before = key
    return table


def _params(changes: Sequence[Change], console: Console) -> None:
    console.print(Text(f"parameters: {'the same' if not changes else f'{len(changes)} changed'}"))
    for change in changes[:PARAMS_SHOWN]:
        console.print(Text(f"  {change.key}: {words.json_value(change.a)} -> {words.json_value(change.b)}"))
    if len(changes) > PARAMS_SHOWN:
        console.print(Text(f"  and {len(changes) - PARAMS_SHOWN} more"))


def _flips(flips: Sequence[Flip], limit: int, console: Console) -> None:
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
