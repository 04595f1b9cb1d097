"""Galleries as PNG: cases with their anomaly maps, and pairs of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.show.figure import INK, MUTED, png_figure, write_centred

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Case:
    """One row of a gallery."""

    image: NDArray[np.uint8]
    """(S, S, 3)"""
    anomaly_map: NDArray[np.floating]
    """(S', S')"""
    caption: str
    """Text beside the images: file, score, label and decision, in lines."""
    pictures: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """Name -> further image of this case: (S', S') in [0, 1], (S', S') bool, or (S', S', 3) uint8."""


@dataclass(frozen=True)
class Pair:
    """Two images side by side."""

    left: NDArray[np.uint8]
    """(S, S, 3)"""
    right: NDArray[np.uint8]
    """(S, S, 3)"""
    caption: str
    """Text beside the images, in lines."""


def render_gallery(cases: Sequence[Case], title: str, path: Path) -> None:
    """Save cases as PNG, one per row: the image, its anomaly map over the image, and its further pictures.

    All maps have the same colour scale, from the median to the 99.8 % quantile of their values, so that rows can be
    compared.
    """
    names = list(dict.fromkeys(name for case in cases for name in case.pictures))
    columns, rows = 2 + len(names), max(len(cases), 1)
    with png_figure(path, 2.2 + 1.9 * columns, 0.75 + 1.9 * rows) as figure:
        figure.suptitle(title, x=0.02, ha="left", color=INK, fontsize=11, fontweight="bold")
        grid = figure.subplots(rows, columns + 1, squeeze=False, width_ratios=[*([1.0] * columns), 1.1])
        for axes in grid.flat:
            axes.axis("off")
        for axes, name in zip(grid[0], ["image", "anomaly map", *names], strict=False):
            axes.set_title(name, fontsize=9, color=MUTED, fontweight="normal", loc="center")
        if not cases:
            write_centred(grid[0][0], "no cases")
            return
        values = np.concatenate([np.asarray(case.anomaly_map, dtype=np.float64).ravel() for case in cases])
        limits = (float(np.median(values)), float(np.quantile(values, 0.998)))
        for row, case in zip(grid, cases, strict=True):
            row[0].imshow(case.image)
            _show_overlay(row[1], case, limits)
            for axes, name in zip(row[2:], names, strict=False):
                if name in case.pictures:
                    _show_picture(axes, case.pictures[name])
            row[-1].text(0.0, 0.5, case.caption, va="center", ha="left", fontsize=8.5, color=INK)


def render_pairs(pairs: Sequence[Pair], title: str, path: Path) -> None:
    """Save pairs of images as PNG, one pair per row."""
    rows = max(len(pairs), 1)
    with png_figure(path, 6.6, 0.75 + 1.9 * rows) as figure:
        figure.suptitle(title, x=0.02, ha="left", color=INK, fontsize=11, fontweight="bold")
        grid = figure.subplots(rows, 3, squeeze=False, width_ratios=[1.0, 1.0, 1.4])
        for axes in grid.flat:
            axes.axis("off")
        if not pairs:
            write_centred(grid[0][1], "none found")
        for row, pair in zip(grid, pairs, strict=False):
            row[0].imshow(pair.left)
            row[1].imshow(pair.right)
            row[2].text(0.0, 0.5, pair.caption, va="center", ha="left", fontsize=8.5, color=INK)


def _show_overlay(axes: Axes, case: Case, limits: tuple[float, float]) -> None:
    """Show the anomaly map in colour over the grey image. Higher values are less transparent."""
    low, high = limits
    height, width = case.image.shape[:2]
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    level = np.clip((np.asarray(case.anomaly_map, dtype=np.float64) - low) / max(high - low, 1e-12), 0, 1)
    axes.imshow(case.image.mean(axis=-1), cmap="gray", vmin=0, vmax=255)
    axes.imshow(
        level, cmap="inferno", vmin=0, vmax=1, alpha=0.15 + 0.7 * level, extent=extent, interpolation="bilinear"
    )


def _show_picture(axes: Axes, picture: NDArray[Any]) -> None:
    if picture.ndim == 3:
        axes.imshow(picture)
    else:
        axes.imshow(picture.astype(np.float32), cmap="gray", vmin=0, vmax=1)
