"""What denoising did: the pictures, and the same in a few lines of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.show.figure import INK, MUTED, figure


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


def draw_denoising(cases: Sequence[Denoised], title: str, path: Path) -> None:
    """One line an image as PNG: its pictures, the residual's norm, and how like the middle patch each patch is.

    Residuals share one scale from 0 to the largest shown, likenesses one from 0 to 1.
    """
    titles = [*cases[0].pictures, "residual", *(f"like the middle, {name}" for name in cases[0].likeness)]
    highest = max(float(case.residual.max()) for case in cases) or 1.0
    with figure(path, 1.75 * len(titles), 0.8 + 1.75 * len(cases)) as drawn:
        drawn.suptitle(title, x=0.02, ha="left", color=INK, fontsize=11, fontweight="bold")
        grid = drawn.subplots(len(cases), len(titles), squeeze=False)
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


def denoising_lines(found: Mapping[str, Any]) -> list[str]:
    """What the stage `probe` found, in a few lines."""
    lines = []
    leakage = found["positional_leakage"]
    if leakage is not None:
        kinds = ("raw", "mean_artifact", "stage_1", "denoiser")
        shown = ", ".join(f"{_words(kind)} {leakage[kind]:.3f}" for kind in kinds)
        lines.append(f"positional leakage (R², lower is better): {shown}")
    for category, values in found["nearest_neighbour"].items():
        if values is not None:
            kinds = ("raw", "mean_artifact", "clean", "difference")
            shown = ", ".join(f"{_words(kind)} {_figure(values[kind])}" for kind in kinds)
            lines.append(f"{category}: image AUROC of the nearest neighbour among features: {shown}")
    for category, probes in found["labelled"].items():
        if probes["linear"]["image_auroc"] is not None:
            shown = ", ".join(f"{name} {_number(one['image_auroc'])}" for name, one in probes.items())
            lines.append(f"{category}: image AUROC of the mean token where labels may be learned: {shown}")
    return lines


def _words(name: str) -> str:
    return {"difference": "clean - raw"}.get(name, name.replace("_", " "))


def _figure(one: Mapping[str, Any]) -> str:
    return f"{one['value']:.3f} [{one['ci'][0]:.3f}, {one['ci'][1]:.3f}]"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
