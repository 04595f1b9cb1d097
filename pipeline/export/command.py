"""Which files are wanted, and what is said of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.project import paths
from pipeline.project.params import Params
from stages.types import UserError

TOLERANCE = 1e-3
"""Largest difference, as a share of how far scores, maps and features spread over the images that are compared."""


def export(
    params: Params,
    categories: Sequence[str] = (),
    detectors: Sequence[str] = (),
    out: Path | None = None,
    tolerance: float = TOLERANCE,
) -> None:
    """OUT/CATEGORY/NAME.onnx and NAME.json of the chosen categories and detectors; none chosen: all, `fused` too.
    Where one of them reads features, OUT/backbone.onnx and backbone.json, which make them.

    `out`: None for data/export.

    What differs by more than the tolerance leaves no file, an older one of its name neither.

    Raises:
        UserError: an unknown name, a stage that has not run, or, once all are done, those beyond the tolerance.
    """
    from pipeline.export.backbone import export_backbone
    from pipeline.export.detectors import export_detector

    categories = _chosen("category", categories, params.data.categories)
    detectors = _chosen("detector", detectors, params.scored_detectors)
    out, faults, reads = out or paths.DATA / "export", list[str | None](), False
    for category in categories:
        for name in detectors:
            try:
                fault, features = export_detector(params, category, name, out / category, tolerance)
            except FileNotFoundError as error:
                raise _has_not_run(f"{category} {name}", error) from error
            faults.append(fault)
            reads |= features
    if reads:
        try:
            faults.append(export_backbone(params, categories[0], out, tolerance))
        except FileNotFoundError as error:
            raise _has_not_run("backbone", error) from error
    if any(faults):
        raise UserError("; ".join(filter(None, faults)))


def _chosen(what: str, given: Sequence[str], known: Sequence[str]) -> Sequence[str]:
    for name in given:
        if name not in known:
            raise UserError(f"unknown {what} {name!r}; params.yaml has {', '.join(known)}")
    return given or known


def _has_not_run(what: str, error: FileNotFoundError) -> UserError:
    return UserError(f"{what}: {error.filename or error} is missing; run `burnish run` first")
