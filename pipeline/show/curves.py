"""ROC curves and score histograms: as PNG, and as data for `dvc plots`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.show.figure import GRID, INK, MUTED, png_figure, write_centred
from stages.score import metrics

NORMAL, DEFECT = "#3b7ea1", "#d1495b"
DETECTOR_COLOURS = ("#d1495b", "#00798c", "#edae49", "#5f4bb6", "#30638e", "#8d5b4c")
BASELINE_COLOURS = ("#6b7785", "#9aa5b1", "#3e4c59")


@dataclass(frozen=True)
class RocCurve:
    """The ROC curve of one detector."""

    name: str
    points: Sequence[Mapping[str, float | None]]
    """Rows with `fpr` and `tpr`, from (0, 0) to (1, 1), as `roc_rows` returns them."""
    auroc: float
    interval: Sequence[float] | None = None
    """Confidence interval of the AUROC: [low, high]."""
    is_baseline: bool = False
    """The curve of a baseline is dashed and grey."""


def roc_rows(scores: NDArray[np.floating], labels: NDArray[Any], limit: int = 200) -> list[dict[str, float | None]]:
    """At most `limit` rows {fpr, tpr, threshold} of a ROC curve; none if the labels (1: defect) hold one class only."""
    truth = np.asarray(labels).astype(bool)
    if not truth.any() or truth.all():
        return []
    return metrics.roc_points(metrics.curve(np.asarray(scores, dtype=np.float64), truth), limit)


def histogram_rows(scores: NDArray[np.floating], labels: NDArray[Any], bins: int = 40) -> list[dict[str, Any]]:
    """Two rows {score, kind, count, share} for each bin: one of kind `normal`, one of kind `defect`.

    `score` is the middle of the bin, `share` is `count` over the number of images of that kind. There are no rows
    without images.
    """
    values, truth = np.asarray(scores, dtype=np.float64), np.asarray(labels).astype(bool)
    if not len(values):
        return []
    edges = _edges(values, bins)
    rows: list[dict[str, Any]] = []
    for kind, of_kind in (("normal", ~truth), ("defect", truth)):
        counts, _ = np.histogram(values[of_kind], edges)
        for low, high, count in zip(edges, edges[1:], counts, strict=False):
            share = round(float(count) / max(int(of_kind.sum()), 1), 6)
            middle = float(f"{(low + high) / 2:.6g}")
            rows.append({"score": middle, "kind": kind, "count": int(count), "share": share})
    return rows


def write_rows(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write rows as data for `dvc plots`: a JSON list."""
    path.write_text(json.dumps(list(rows), indent=1, allow_nan=False) + "\n", "utf-8")


def render_roc(curves: Sequence[RocCurve], title: str, path: Path) -> None:
    """Save the ROC curves of the detectors of one category as PNG. The legend lists the best AUROC first."""
    with png_figure(path, 6.0, 5.4) as figure:
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color=GRID, linewidth=1.2, zorder=1)
        axes.annotate("chance", (0.79, 0.765), color=MUTED, fontsize=8, rotation=42, ha="center")
        detector_colours, baseline_colours = cycle(DETECTOR_COLOURS), cycle(BASELINE_COLOURS)
        for curve in sorted(curves, key=lambda curve: (-curve.auroc, curve.name)):
            fpr, tpr = ([row[key] for row in curve.points] for key in ("fpr", "tpr"))
            label = f"{curve.name}{' (baseline)' if curve.is_baseline else ''}  {curve.auroc:.3f}"
            if curve.interval is not None:
                label += f" [{curve.interval[0]:.3f}, {curve.interval[1]:.3f}]"
            style: dict[str, Any]
            if curve.is_baseline:
                style = {"color": next(baseline_colours), "linestyle": (0, (4, 2)), "linewidth": 1.5, "zorder": 2}
            else:
                style = {"color": next(detector_colours), "linewidth": 2.2, "zorder": 3}
            axes.plot(fpr, tpr, label=label, **style)
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
        axes.set_xlabel("good images rejected (false-positive rate)")
        axes.set_ylabel("defects found (true-positive rate)")
        axes.set_title(title, pad=12)
        axes.grid(linewidth=0.7)
        if curves:
            axes.legend(loc="lower right", title="image AUROC [interval]", fontsize=8.5, alignment="left")
        else:
            write_centred(axes, "no curve: one class is missing from the test images")


def render_score_histogram(
    scores: NDArray[np.floating], labels: NDArray[Any], threshold: float | None, title: str, path: Path
) -> None:
    """Save histograms of the image scores of normal and defective test images, with the deployed threshold, as PNG."""
    values, truth = np.asarray(scores, dtype=np.float64), np.asarray(labels).astype(bool)
    with png_figure(path, 7.2, 3.8) as figure:
        axes = figure.add_subplot()
        axes.set_title(title, pad=12)
        if not len(values):
            write_centred(axes, "no test images")
            return
        edges = _edges(values, 40)
        for kind, colour, of_kind in (("normal", NORMAL, ~truth), ("defect", DEFECT, truth)):
            if of_kind.any():
                bins: dict[str, Any] = {"bins": edges, "weights": np.full(int(of_kind.sum()), 1 / of_kind.sum())}
                axes.hist(values[of_kind], color=colour, alpha=0.4, **bins)
                label = f"{kind} ({int(of_kind.sum())})"
                axes.hist(values[of_kind], color=colour, histtype="step", linewidth=1.4, label=label, **bins)
        if threshold is not None:
            axes.axvline(threshold, color=INK, linewidth=1.4, linestyle=(0, (4, 2)), label=f"threshold {threshold:.4g}")
        axes.set_xlabel("image score (higher = more anomalous)")
        axes.set_ylabel("share of the class")
        axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f} %")
        axes.grid(axis="y", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.legend(loc="upper right")


def _edges(values: NDArray[np.float64], bins: int) -> NDArray[np.float64]:
    """Edges of equal bins from the lowest to the highest score. Equal scores get bins from 1 % below to 1 % above."""
    low, high = float(values.min()), float(values.max())
    if high <= low:
        low, high = low - max(abs(low), 1.0) / 100, high + max(abs(high), 1.0) / 100
    return np.linspace(low, high, bins + 1)
