"""ROC curves and score histograms as coordinates for inline SVG, which takes the page's colours, light or dark.

Units are those of the SVG's viewBox: about one CSS pixel on a phone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WIDTH = 360
LEFT, RIGHT, TOP, BOTTOM = 44, 18, 10, 40
"""Margins, for the axes' labels."""
ROC_HEIGHT, SCORES_HEIGHT = 348, 224
OWN_COLOURS, FLOOR_COLOURS = 6, 3
"""How many colours the page has for detectors and for floors; then they start again."""

Points = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Tick:
    at: float
    text: str


@dataclass(frozen=True)
class Curve:
    """A line of the ROC chart."""

    name: str
    look: str
    """Its CSS class: `own0`, `floor1`, ..."""
    path: str
    dot: tuple[float, float] | None
    """Where the deployed threshold puts it."""
    area: str
    """AUROC, with its interval."""


@dataclass(frozen=True)
class Bars:
    """The outline of one class's histogram."""

    kind: str
    """`normal` or `defect`"""
    path: str
    count: int


@dataclass(frozen=True)
class Chart:
    """What both charts have."""

    height: int
    x: Sequence[Tick]
    y: Sequence[Tick]


@dataclass(frozen=True)
class RocChart(Chart):
    curves: Sequence[Curve]
    diagonal: str


@dataclass(frozen=True)
class ScoreChart(Chart):
    name: str
    floor: bool
    bars: Sequence[Bars]
    threshold: Tick | None


class Scale:
    """Values low..high on start..end."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self.low, self.start = low, start
        self.factor = (end - start) / (high - low)

    def __call__(self, value: float) -> float:
        return round(self.start + (value - self.low) * self.factor, 1)


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers in low..high (low < high), in steps of 1, 2 or 5 times a power of ten: at most `about` + 1."""
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{i * step:.12g}") for i in range(first, last + 1)]


def roc_chart(curves: Sequence[tuple[str, bool, Points, tuple[float, float] | None, str]]) -> RocChart | None:
    """Of curves (name, whether a floor, points {fpr, tpr}, (fpr, tpr) at the threshold, AUROC in words); or None."""
    x, y = _shares(ROC_HEIGHT)
    own = floors = 0
    drawn = []
    for name, floor, points, at, area in curves:
        if not points:
            continue
        look = f"floor{floors % FLOOR_COLOURS}" if floor else f"own{own % OWN_COLOURS}"
        floors, own = floors + floor, own + (not floor)
        path = "M" + " ".join(f"{x(row['fpr'])},{y(row['tpr'])}" for row in points)
        drawn.append(Curve(name, look, path, None if at is None else (x(at[0]), y(at[1])), area))
    if not drawn:
        return None
    marks = [0, 0.2, 0.4, 0.6, 0.8, 1]
    return RocChart(
        height=ROC_HEIGHT,
        x=[Tick(x(share), f"{100 * share:.0f}%") for share in marks],
        y=[Tick(y(share), f"{100 * share:.0f}%") for share in marks],
        curves=drawn,
        diagonal=f"M{x(0)},{y(0)} {x(1)},{y(1)}",
    )


def score_chart(name: str, floor: bool, rows: Points, threshold: float | None) -> ScoreChart | None:
    """Rows {score (the bin's middle), kind, count, share} of equal bins, as `curves.histogram_rows` makes them; None
    without rows."""
    if not rows:
        return None
    middles = sorted({float(row["score"]) for row in rows})
    half = (middles[-1] - middles[0]) / (len(middles) - 1) / 2 if len(middles) > 1 else 0.5
    low, high = middles[0] - half, middles[-1] + half
    if threshold is not None:
        low, high = min(low, threshold), max(high, threshold)
    highest = max(float(row["share"]) for row in rows)
    x = Scale(low, high, LEFT, WIDTH - RIGHT)
    y = Scale(0, highest, SCORES_HEIGHT - BOTTOM, TOP)
    bars = []
    for kind in ("normal", "defect"):
        chosen = [row for row in rows if row["kind"] == kind]
        if count := sum(int(row["count"]) for row in chosen):
            bars.append(Bars(kind, _outline(chosen, half, x, y), count))
    return ScoreChart(
        height=SCORES_HEIGHT,
        x=[Tick(x(value), f"{value:g}") for value in ticks(low, high)],
        y=[Tick(y(share), f"{100 * share:.3g}%") for share in ticks(0, highest, 4)],
        name=name,
        floor=floor,
        bars=bars,
        threshold=None if threshold is None else Tick(x(threshold), f"{threshold:.4g}"),
    )


def _shares(height: int) -> tuple[Scale, Scale]:
    """Scales of two axes from 0 to 1."""
    return Scale(0, 1, LEFT, WIDTH - RIGHT), Scale(0, 1, height - BOTTOM, TOP)


def _outline(rows: Points, half: float, x: Scale, y: Scale) -> str:
    """A closed path around the bars."""
    path = f"M{x(rows[0]['score'] - half)},{y(0)}"
    for row in rows:
        path += f"V{y(row['share'])}H{x(row['score'] + half)}"
    return path + f"V{y(0)}Z"
