"""Pictures and DVC plot data from values: ROC curves, score distributions, galleries of cases.

Same values, same bytes: the Agg renderer, fixed sizes and fonts, no date or version in the file. matplotlib is imported
only when something is drawn.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stages.score import metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, GRID = "#1f2933", "#6b7785", "#dfe4ea"
NORMAL, DEFECT = "#3b7ea1", "#d1495b"
COLOURS = ("#d1495b", "#00798c", "#edae49", "#5f4bb6", "#30638e", "#8d5b4c")  # detectors
FLOOR_COLOURS = ("#6b7785", "#9aa5b1", "#3e4c59")
_STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 9.5,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlecolor": INK,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "grid.color": GRID,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
}


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


@dataclass(frozen=True)
class Case:
    """One line of a gallery."""

    image: NDArray[np.uint8]
    """(S, S, 3)"""
    anomaly_map: NDArray[np.floating]
    """(S', S')"""
    caption: str
    """Beside the images: which file, score, label and decision; lines separated by a newline."""
    pictures: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """More images by name: (S', S') in [0, 1], bool, or (S', S', 3) uint8."""


@dataclass(frozen=True)
class Pair:
    """Two images side by side."""

    left: NDArray[np.uint8]
    """(S, S, 3)"""
    right: NDArray[np.uint8]
    """(S, S, 3)"""
    caption: str
    """Beside them; lines separated by a newline."""


@dataclass(frozen=True)
class Denoised:
    """One line of a picture of what denoising did."""

    name: str
    pictures: Mapping[str, NDArray[np.uint8]]
    """(S, S, 3) or (h, w, 3) by title."""
    residual: NDArray[np.floating]
    """(h, w), at least 0."""
    likeness: Mapping[str, NDArray[np.floating]]
    """(h, w) in [-1, 1] by kind of token: similarity to the patch in the middle."""


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
    with _figure(path, 6.0, 5.4) as figure:
        axes = figure.add_subplot()
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
            _nothing(axes, "no curve: one class is missing from the test images")


def draw_scores(
    scores: NDArray[np.floating], labels: NDArray[Any], threshold: float | None, title: str, path: Path
) -> None:
    """Histograms of the image scores of normal and defective test images with the deployed threshold, as PNG."""
    values, truth = np.asarray(scores, dtype=np.float64), np.asarray(labels).astype(bool)
    with _figure(path, 7.2, 3.8) as figure:
        axes = figure.add_subplot()
        axes.set_title(title, pad=12)
        if not len(values):
            _nothing(axes, "no test images")
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


def draw_gallery(cases: Sequence[Case], title: str, path: Path) -> None:
    """Cases one below the other as PNG: image, anomaly map over it, and whatever other pictures they have.

    Maps share one colour scale, from the median to the 99.8 % quantile of all values shown, so rows can be compared.
    """
    names = list(dict.fromkeys(name for case in cases for name in case.pictures))
    columns, rows = 2 + len(names), max(len(cases), 1)
    with _figure(path, 2.2 + 1.9 * columns, 0.75 + 1.9 * rows) as figure:
        figure.suptitle(title, x=0.02, ha="left", color=INK, fontsize=11, fontweight="bold")
        grid = figure.subplots(rows, columns + 1, squeeze=False, width_ratios=[*([1.0] * columns), 1.1])
        for axes in grid.flat:
            axes.axis("off")
        for axes, name in zip(grid[0], ["image", "anomaly map", *names], strict=False):
            axes.set_title(name, fontsize=9, color=MUTED, fontweight="normal", loc="center")
        if not cases:
            _nothing(grid[0][0], "no cases")
            return
        shown = np.concatenate([np.asarray(case.anomaly_map, dtype=np.float64).ravel() for case in cases])
        limits = (float(np.median(shown)), float(np.quantile(shown, 0.998)))
        for line, case in zip(grid, cases, strict=True):
            line[0].imshow(case.image)
            _overlay(line[1], case, limits)
            for axes, name in zip(line[2:], names, strict=False):
                if name in case.pictures:
                    _picture(axes, case.pictures[name])
            line[-1].text(0.0, 0.5, case.caption, va="center", ha="left", fontsize=8.5, color=INK)


def draw_pairs(pairs: Sequence[Pair], title: str, path: Path) -> None:
    """Pairs of images one below the other as PNG."""
    rows = max(len(pairs), 1)
    with _figure(path, 6.6, 0.75 + 1.9 * rows) as figure:
        figure.suptitle(title, x=0.02, ha="left", color=INK, fontsize=11, fontweight="bold")
        grid = figure.subplots(rows, 3, squeeze=False, width_ratios=[1.0, 1.0, 1.4])
        for axes in grid.flat:
            axes.axis("off")
        if not pairs:
            _nothing(grid[0][1], "none found")
        for line, pair in zip(grid, pairs, strict=False):
            line[0].imshow(pair.left)
            line[1].imshow(pair.right)
            line[2].text(0.0, 0.5, pair.caption, va="center", ha="left", fontsize=8.5, color=INK)


def draw_denoising(cases: Sequence[Denoised], title: str, path: Path) -> None:
    """One line an image as PNG: its pictures, the residual's norm, and how like the middle patch each patch is.

    Residuals share one scale from 0 to the largest shown, likenesses one from 0 to 1.
    """
    titles = [*cases[0].pictures, "residual", *(f"like the middle, {name}" for name in cases[0].likeness)]
    highest = max(float(case.residual.max()) for case in cases) or 1.0
    with _figure(path, 1.75 * len(titles), 0.8 + 1.75 * len(cases)) as figure:
        figure.suptitle(title, x=0.02, ha="left", color=INK, fontsize=11, fontweight="bold")
        grid = figure.subplots(len(cases), len(titles), squeeze=False)
        for axes, name in zip(grid[0], titles, strict=True):
            axes.set_title(name, fontsize=9, color=MUTED, fontweight="normal", loc="center")
        for line, case in zip(grid, cases, strict=True):
            for axes in line:
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set_visible(False)
            line[0].set_xlabel(case.name[:26], fontsize=7, color=MUTED)
            for axes, picture in zip(line, case.pictures.values(), strict=False):
                axes.imshow(picture)
            line[len(case.pictures)].imshow(case.residual, cmap="magma", vmin=0, vmax=highest)
            for axes, likeness in zip(line[-len(case.likeness) :], case.likeness.values(), strict=True):
                axes.imshow(likeness, cmap="viridis", vmin=0, vmax=1)


def _overlay(axes: Axes, case: Case, limits: tuple[float, float]) -> None:
    """Map in colour over the grey image; the more anomalous, the less transparent."""
    low, high = limits
    height, width = case.image.shape[:2]
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    level = np.clip((np.asarray(case.anomaly_map, dtype=np.float64) - low) / max(high - low, 1e-12), 0, 1)
    axes.imshow(case.image.mean(axis=-1), cmap="gray", vmin=0, vmax=255)
    axes.imshow(
        level, cmap="inferno", vmin=0, vmax=1, alpha=0.15 + 0.7 * level, extent=extent, interpolation="bilinear"
    )


def _picture(axes: Axes, picture: NDArray[Any]) -> None:
    if picture.ndim == 3:
        axes.imshow(picture)
    else:
        axes.imshow(picture.astype(np.float32), cmap="gray", vmin=0, vmax=1)


def _edges(values: NDArray[np.float64], bins: int) -> NDArray[np.float64]:
    """Edges of equal bins from the lowest to the highest score; equal scores get a bin of some width."""
    low, high = float(values.min()), float(values.max())
    if high <= low:
        low, high = low - max(abs(low), 1.0) / 100, high + max(abs(high), 1.0) / 100
    return np.linspace(low, high, bins + 1)


def _cycled(colours: Sequence[str], count: int) -> list[str]:
    return [colours[i % len(colours)] for i in range(count)]


def _nothing(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=MUTED)


@contextmanager
def _figure(path: Path, width: float, height: float) -> Any:
    """A figure of that many inches, saved as PNG when the block ends; no pyplot, so nothing global is touched."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style: Any = dict(matplotlib.rcParamsDefault)  # first: a matplotlibrc of the user must not change the pictures
    style.update(_STYLE)
    del style["backend"]  # setting it would change the renderer of the whole process
    with matplotlib.rc_context(style):
        figure: Figure = Figure(figsize=(width, height), dpi=120, layout="constrained", facecolor="white")
        FigureCanvasAgg(figure)
        yield figure
        figure.savefig(path, metadata={"Software": None})
