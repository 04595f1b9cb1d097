"""Tables of the report, and numbers as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.show.tables import DASH

Values = Mapping[str, Any]
"""Part of metrics.json or details.json."""


@dataclass(frozen=True)
class Line:
    """A row of a table."""

    cells: Sequence[str]
    muted: bool = False
    """Set apart from the other rows: a baseline or a sum."""


@dataclass(frozen=True)
class Table:
    head: Sequence[str]
    lines: Sequence[Line]
    text_columns: int = 1
    """Number of columns, from the left, with text; the others hold numbers."""
    notes: Sequence[str] = field(default=())
    """What the table does not contain, and why."""


def format_number(value: float | None, digits: int = 3) -> str:
    """`0.909`"""
    return DASH if value is None else f"{value:.{digits}f}"


def format_percent(share: float | None) -> str:
    """`4.1%` for 0.041"""
    return DASH if share is None else f"{100 * share:.1f}%"


def format_interval(interval: Sequence[float] | None, digits: int = 3) -> str:
    """`0.883 to 0.934`; empty without an interval."""
    return "" if interval is None else f"{interval[0]:.{digits}f} to {interval[1]:.{digits}f}"


def format_percent_interval(interval: Sequence[float] | None) -> str:
    """`4.1% to 11.9%`; empty without an interval."""
    return "" if interval is None else f"{100 * interval[0]:.1f}% to {100 * interval[1]:.1f}%"


def format_with_interval(value: float | None, interval: Sequence[float] | None) -> str:
    """`0.909 [0.883 to 0.934]`"""
    has_both = value is not None and interval is not None
    return format_number(value) + (f" [{format_interval(interval)}]" if has_both else "")


def join_names(names: Sequence[str]) -> str:
    """`a, b and c`"""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def drop_empty_columns(
    head: Sequence[str], lines: Sequence[Line], always_kept: int
) -> tuple[Sequence[str], list[Line]]:
    """Head and rows without the columns in which no value is defined.

    Args:
        always_kept: number of columns, from the left, that are kept in any case.
    """
    kept = [i for i in range(len(head)) if i < always_kept or any(line.cells[i] not in (DASH, "") for line in lines)]
    return [head[i] for i in kept], [Line([line.cells[i] for i in kept], line.muted) for line in lines]
