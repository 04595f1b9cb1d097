"""ROC curves and score histograms, as pictures and as DVC plot data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.show.figure import GRID, INK, MUTED, figure, nothing
from stages.score import metrics

NORMAL, DEFECT = "#3b7ea1", "#d1495b"
COLOURS = ("#d1495b", "#00798c", "#edae49", "#5f4bb6", "#30638e", "#8d5b4c")  # detectors
FLOOR_COLOURS = ("#6b7785", "#9aa5b1", "#3e4c59")


@dataclass(frozen=True)
class Roc:
    """One line of a ROC picture."""

    name: str
    points: Sequence[Mapping[str, float | None]]
    """Rows with `fpr` and `tpr`, from (0, 0) to (1, 1), as `roc_rows` makes them."""
    auroc: float
    interval: Sequence[float] | None = None
    """[lo, hi]"""
    floor: bool = False
    """A trivial method: drawn dashed and grey."""


def roc_rows(scores: NDArray[np.floating], labels: NDArray[Any], limit: int = 200) -> list[dict[str, float | None]]:
    """Rows {fpr, tpr, threshold} of a ROC curve, at most `limit`; empty where one class is missing."""
    truth = np.asarray(labels).astype(bool)
    if not truth.any() or truth.all():
        return []
    return metrics.roc_points(metrics.curve(np.asarray(scores, dtype=np.float64), truth), limit)


def histogram_rows(scores: NDArray[np.floating], labels: NDArray[Any], bins: int = 40) -> list[dict[str, Any]]:
    """Rows {score, kind, count, share}: two a bin, `normal` and `defect`; `score` is the bin's middle, `share` the
    part of that class's images. Empty without images."""
    values, truth = np.asarray(scores, dtype=np.float64), np.asarray(labels).astype(bool)
    if not len(values):
        return []
    edges = _edges(values, bins)
    rows: list[dict[str, Any]] = []
    for kind, chosen in (("normal", ~truth), ("defect", truth)):
        counts, _ = np.histogram(values[chosen], edges)
        for low, high, count in zip(edges, edges[1:], counts, strict=False):
            share = round(float(count) / max(int(chosen.sum()), 1), 6)
            middle = float(f"{(low + high) / 2:.6g}")
            rows.append({"score": middle, "kind": kind, "count": int(count), "share": share})
    return rows


def write_rows(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """DVC plot data: a JSON list of rows."""
    path.write_text(json.dumps(list(rows), indent=1, allow_nan=False) + "\n", "utf-8")


def draw_roc(curves: Sequence[Roc], title: str, path: Path) -> None:
    """ROC curves of the detectors of a category as PNG, best first in the legend, floors dashed."""
    with figure(path, 6.0, 5.4) as drawn:
        axes = drawn.add_subplot()
        axes.plot([0, 1], [0, 1], color=GRID, linewidth=1.2, zorder=1)
        axes.annotate("chance", (0.79, 0.765), color=MUTED, fontsize=8, rotation=42, ha="center")
        own, floors = (iter(_cycled(colours, len(curves))) for colours in (COLOURS, FLOOR_COLOURS))
        for curve in sorted(curves, key=lambda one: (-one.auroc, one.name)):
            fpr, tpr = ([row[key] for row in curve.points] for key in ("fpr", "tpr"))
            label = f"{curve.name}{' (floor)' if curve.floor else ''}  {curve.auroc:.3f}"
            if curve.interval is not None:
                label += f" [{curve.interval[0]:.3f}, {curve.interval[1]:.3f}]"
            look: dict[str, Any] = {"linestyle": (0, (4, 2)), "linewidth": 1.5} if curve.floor else {"linewidth": 2.2}
            colour = next(floors if curve.floor else own)
            axes.plot(fpr, tpr, label=label, color=colour, zorder=2 if curve.floor else 3, **look)
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
        axes.set_xlabel("good images rejected (false-positive rate)")
        axes.set_ylabel("defects found (true-positive rate)")
        axes.set_title(title, pad=12)
        axes.grid(linewidth=0.7)
        if curves:
            axes.legend(loc="lower right", title="image AUROC [interval]", fontsize=8.5, alignment="left")
        else:
            nothing(axes, "no curve: one class is missing from the test images")


def draw_scores(
    scores: NDArray[np.floating], labels: NDArray[Any], threshold: float | None, title: str, path: Path
) -> None:
    """Histograms of the image scores of normal and defective test images with the deployed threshold, as PNG."""
    values, truth = np.asarray(scores, dtype=np.float64), np.asarray(labels).astype(bool)
    with figure(path, 7.2, 3.8) as drawn:
        axes = drawn.add_subplot()
        axes.set_title(title, pad=12)
        if not len(values):
            nothing(axes, "no test images")
            return
        edges = _edges(values, 40)
        for name, colour, chosen in (("normal", NORMAL, ~truth), ("defect", DEFECT, truth)):
            if chosen.any():
                look: dict[str, Any] = {"bins": edges, "weights": np.full(int(chosen.sum()), 1 / chosen.sum())}
                axes.hist(values[chosen], color=colour, alpha=0.4, **look)
                label = f"{name} ({int(chosen.sum())})"
                axes.hist(values[chosen], color=colour, histtype="step", linewidth=1.4, label=label, **look)
        if threshold is not None:
            axes.axvline(threshold, color=INK, linewidth=1.4, linestyle=(0, (4, 2)), label=f"threshold {threshold:.4g}")
        axes.set_xlabel("image score (higher = more anomalous)")
        axes.set_ylabel("share of the class")
        axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f} %")
        axes.grid(axis="y", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.legend(loc="upper right")


def _edges(values: NDArray[np.float64], bins: int) -> NDArray[np.float64]:
    """Edges of equal bins from the lowest to the highest score; equal scores get a bin of some width."""
    low, high = float(values.min()), float(values.max())
    if high <= low:
        low, high = low - max(abs(low), 1.0) / 100, high + max(abs(high), 1.0) / 100
    return np.linspace(low, high, bins + 1)


def _cycled(colours: Sequence[str], count: int) -> list[str]:
    return [colours[i % len(colours)] for i in range(count)]
