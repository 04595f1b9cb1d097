"""ROC curves and score histograms as coordinates for inline SVG, which follows the page's light or dark colours.

Coordinates are those of the SVG's viewBox: about one CSS pixel on a phone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

WIDTH = 360
LEFT, RIGHT, TOP, BOTTOM = 44, 18, 10, 40
"""Margins, for the labels of the axes."""
ROC_HEIGHT, SCORES_HEIGHT = 348, 224
DETECTOR_COLOURS, BASELINE_COLOURS = 6, 3
"""Number of colours in style.css; further detectors start again with the first."""

Points = Sequence[Mapping[str, Any]]


class RocData(NamedTuple):
    """What a ROC curve is made from."""

    detector: str
    is_baseline: bool
    points: Points
    """{fpr, tpr}; empty: no curve."""
    threshold_point: tuple[float, float] | None
    """(fpr, tpr) at the deployed threshold."""
    auroc: str
    """With its interval, for the legend."""


@dataclass(frozen=True)
class Tick:
    position: float
    text: str


@dataclass(frozen=True)
class Curve:
    """A line of the ROC chart."""

    name: str
    css_class: str
    """`detector0`, `baseline1`, ..."""
    path: str
    threshold_point: tuple[float, float] | None
    """Position of the deployed threshold."""
    auroc: str
    """With its interval."""


@dataclass(frozen=True)
class Bars:
    """The outline of the histogram of one class."""

    label: str
    """`normal` or `defect`."""
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
    is_baseline: bool
    bars: Sequence[Bars]
    threshold: Tick | None


class Scale:
    """Maps values from low..high to start..end."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self.low, self.start = low, start
        self.factor = (end - start) / (high - low)

    def __call__(self, value: float) -> float:
        return round(self.start + (value - self.low) * self.factor, 1)


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """At most `about` + 1 round numbers in low..high (low < high), in steps of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{i * step:.12g}") for i in range(first, last + 1)]


def roc_chart(curves: Sequence[RocData]) -> RocChart | None:
    """A chart of the curves that have points; None if there is none."""
    x, y = _unit_scales(ROC_HEIGHT)
    detectors = baselines = 0
    drawn = []
    for data in curves:
        if not data.points:
            continue
        if data.is_baseline:
            css_class = f"baseline{baselines % BASELINE_COLOURS}"
            baselines += 1
        else:
            css_class = f"detector{detectors % DETECTOR_COLOURS}"
            detectors += 1
        path = "M" + " ".join(f"{x(row['fpr'])},{y(row['tpr'])}" for row in data.points)
        point = data.threshold_point
        position = None if point is None else (x(point[0]), y(point[1]))
        drawn.append(Curve(data.detector, css_class, path, position, data.auroc))
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


def score_chart(name: str, is_baseline: bool, rows: Points, threshold: float | None) -> ScoreChart | None:
    """The histogram of a detector's scores; None without rows.

    Args:
        rows: {score (middle of the bin), kind, count, share} of bins of equal width, from `curves.histogram_rows`.
    """
    if not rows:
        return None
    middles = sorted({float(row["score"]) for row in rows})
    half_width = (middles[-1] - middles[0]) / (len(middles) - 1) / 2 if len(middles) > 1 else 0.5
    low, high = middles[0] - half_width, middles[-1] + half_width
    if threshold is not None:
        low, high = min(low, threshold), max(high, threshold)
    highest = max(float(row["share"]) for row in rows)
    x = Scale(low, high, LEFT, WIDTH - RIGHT)
    y = Scale(0, highest, SCORES_HEIGHT - BOTTOM, TOP)
    bars = []
    for label in ("normal", "defect"):
        own_rows = [row for row in rows if row["kind"] == label]
        if count := sum(int(row["count"]) for row in own_rows):
            bars.append(Bars(label, _outline(own_rows, half_width, x, y), count))
    return ScoreChart(
        height=SCORES_HEIGHT,
        x=[Tick(x(value), f"{value:g}") for value in ticks(low, high)],
        y=[Tick(y(share), f"{100 * share:.3g}%") for share in ticks(0, highest, 4)],
        name=name,
        is_baseline=is_baseline,
        bars=bars,
        threshold=None if threshold is None else Tick(x(threshold), f"{threshold:.4g}"),
    )


def _unit_scales(height: int) -> tuple[Scale, Scale]:
    """Scales of two axes from 0 to 1."""
    return Scale(0, 1, LEFT, WIDTH - RIGHT), Scale(0, 1, height - BOTTOM, TOP)


def _outline(rows: Points, half_width: float, x: Scale, y: Scale) -> str:
    """A closed path around the bars."""
    path = f"M{x(rows[0]['score'] - half_width)},{y(0)}"
    for row in rows:
        path += f"V{y(row['share'])}H{x(row['score'] + half_width)}"
    return path + f"V{y(0)}Z"
