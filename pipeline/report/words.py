"""Figures in words, and tables of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.show.tables import DASH

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Line:
    """A row of a table."""

    cells: Sequence[str]
    quiet: bool = False
    """Set apart: a floor."""


@dataclass(frozen=True)
class Table:
    head: Sequence[str]
    lines: Sequence[Line]
    words: int = 1
    """How many columns, from the left, hold words; the others hold figures."""
    notes: Sequence[str] = field(default=())
    """What it does not hold, and why."""


def number(value: float | None, digits: int = 3) -> str:
    return DASH if value is None else f"{value:.{digits}f}"


def percent(value: float | None) -> str:
    return DASH if value is None else f"{100 * value:.1f}%"


def interval(ends: Sequence[float] | None, digits: int = 3) -> str:
    return "" if ends is None else f"{ends[0]:.{digits}f} to {ends[1]:.{digits}f}"


def percents(ends: Sequence[float] | None) -> str:
    return "" if ends is None else f"{100 * ends[0]:.1f}% to {100 * ends[1]:.1f}%"


def with_interval(value: float | None, ends: Sequence[float] | None) -> str:
    """`0.909 [0.883 to 0.934]`"""
    return number(value) + (f" [{interval(ends)}]" if value is not None and ends is not None else "")


def listed(words: Sequence[str]) -> str:
    """`a, b and c`"""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def without_empty(head: Sequence[str], lines: Sequence[Line], kept: int) -> tuple[Sequence[str], list[Line]]:
    """Head and rows without the columns, behind the first `kept`, in which nothing is defined."""
    shown = [i for i in range(len(head)) if i < kept or any(line.cells[i] not in (DASH, "") for line in lines)]
    return [head[i] for i in shown], [Line([line.cells[i] for i in shown], line.quiet) for line in lines]
