"""Galleries of cases and of pairs of images, as pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.show.figure import INK, MUTED, figure, nothing

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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


def draw_gallery(cases: Sequence[Case], title: str, path: Path) -> None:
    """Cases one below the other as PNG: image, anomaly map over it, and whatever other pictures they have.

    Maps share one colour scale, from the median to the 99.8 % quantile of all values shown, so rows can be compared.
    """
    names = list(dict.fromkeys(name for case in cases for name in case.pictures))
    columns, rows = 2 + len(names), max(len(cases), 1)
    with figure(path, 2.2 + 1.9 * columns, 0.75 + 1.9 * rows) as drawn:
        drawn.suptitle(title, x=0.02, ha="left", color=INK, fontsize=11, fontweight="bold")
        grid = drawn.subplots(rows, columns + 1, squeeze=False, width_ratios=[*([1.0] * columns), 1.1])
        for axes in grid.flat:
            axes.axis("off")
        for axes, name in zip(grid[0], ["image", "anomaly map", *names], strict=False):
            axes.set_title(name, fontsize=9, color=MUTED, fontweight="normal", loc="center")
        if not cases:
            nothing(grid[0][0], "no cases")
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
    with figure(path, 6.6, 0.75 + 1.9 * rows) as drawn:
        drawn.suptitle(title, x=0.02, ha="left", color=INK, fontsize=11, fontweight="bold")
        grid = drawn.subplots(rows, 3, squeeze=False, width_ratios=[1.0, 1.0, 1.4])
        for axes in grid.flat:
            axes.axis("off")
        if not pairs:
            nothing(grid[0][1], "none found")
        for line, pair in zip(grid, pairs, strict=False):
            line[0].imshow(pair.left)
            line[1].imshow(pair.right)
            line[2].text(0.0, 0.5, pair.caption, va="center", ha="left", fontsize=8.5, color=INK)


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
