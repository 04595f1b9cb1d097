"""Shows the effect of denoising: tokens of some images as PNG, and the results of the stage `probe` as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.show.figure import INK, MUTED, png_figure


@dataclass(frozen=True)
class DenoisingCase:
    """One image: its tokens before and after denoising."""

    name: str
    pictures: Mapping[str, NDArray[np.uint8]]
    """Title -> picture (S, S, 3) or (h, w, 3)."""
    residual: NDArray[np.floating]
    """(h, w), at least 0: norm of the residual of each token."""
    similarity: Mapping[str, NDArray[np.floating]]
    """Kind of token -> (h, w) in [-1, 1]: similarity of each patch to the patch in the middle."""


def render_denoising(cases: Sequence[DenoisingCase], title: str, path: Path) -> None:
    """Save a PNG with one row per image: its pictures, the residual, and the similarity to the patch in the middle.

    All residuals have one colour scale, from 0 to their maximum; all similarities have one from 0 to 1.
    """
    titles = [*cases[0].pictures, "residual", *(f"like the middle, {name}" for name in cases[0].similarity)]
    highest = max(float(case.residual.max()) for case in cases) or 1.0
    with png_figure(path, 1.75 * len(titles), 0.8 + 1.75 * len(cases)) as figure:
        figure.suptitle(title, x=0.02, ha="left", color=INK, fontsize=11, fontweight="bold")
        grid = figure.subplots(len(cases), len(titles), squeeze=False)
        for axes, name in zip(grid[0], titles, strict=True):
            axes.set_title(name, fontsize=9, color=MUTED, fontweight="normal", loc="center")
        for row, case in zip(grid, cases, strict=True):
            for axes in row:
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set_visible(False)
            row[0].set_xlabel(case.name[:26], fontsize=7, color=MUTED)
            for axes, picture in zip(row, case.pictures.values(), strict=False):
                axes.imshow(picture)
            row[len(case.pictures)].imshow(case.residual, cmap="magma", vmin=0, vmax=highest)
            for axes, similarity in zip(row[-len(case.similarity) :], case.similarity.values(), strict=True):
                axes.imshow(similarity, cmap="viridis", vmin=0, vmax=1)


def denoising_lines(probe: Mapping[str, Any]) -> list[str]:
    """The results of the stage `probe` (probe.json) in a few lines of text."""
    lines = []
    leakage = probe["positional_leakage"]
    if leakage is not None:
        kinds = ("raw", "mean_artifact", "stage_1", "denoiser")
        values = ", ".join(f"{_label(kind)} {leakage[kind]:.3f}" for kind in kinds)
        lines.append(f"positional leakage (R², lower is better): {values}")
    for category, aurocs in probe["nearest_neighbour"].items():
        if aurocs is not None:
            kinds = ("raw", "mean_artifact", "clean", "difference")
            values = ", ".join(f"{_label(kind)} {_with_interval(aurocs[kind])}" for kind in kinds)
            lines.append(f"{category}: image AUROC by the distance to the nearest feature of a good image: {values}")
    for category, classifiers in probe["labelled"].items():
        if classifiers["linear"]["image_auroc"] is not None:
            values = ", ".join(f"{name} {_number(result['image_auroc'])}" for name, result in classifiers.items())
            lines.append(f"{category}: image AUROC of classifiers trained on labelled mean tokens: {values}")
    return lines


def _label(kind: str) -> str:
    """The name of a kind of token as readers know it: `stage_1` is the result of DVT step 1."""
    return {"difference": "clean - raw", "stage_1": "step 1"}.get(kind, kind.replace("_", " "))


def _with_interval(result: Mapping[str, Any]) -> str:
    ends = result["ci"]
    return f"{result['value']:.3f}" + ("" if ends is None else f" [{ends[0]:.3f}, {ends[1]:.3f}]")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
