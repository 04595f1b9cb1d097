"""Which categories and detectors are exported, and what is reported if one fails."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.project import paths
from pipeline.project.params import Params
from stages.types import UserError

TOLERANCE = 1e-3
"""Largest difference, as a share of the spread of scores, maps or features over the compared images."""


def export(
    params: Params,
    categories: Sequence[str] = (),
    detectors: Sequence[str] = (),
    out: Path | None = None,
    tolerance: float = TOLERANCE,
) -> None:
    """Write OUT/CATEGORY/NAME.onnx and NAME.json of the chosen categories and detectors.

    If a detector reads features, OUT/backbone.onnx and backbone.json are written too; they compute the features.
    Whatever differs by more than the tolerance is not written, and an older file of its name is removed.

    Args:
        categories, detectors: none chosen: all, including `fused`.
        out: output folder; None: data/export.
        tolerance: see TOLERANCE.

    Raises:
        UserError: a name is unknown, a stage has not run, or an export differs by more than the tolerance; the last is
            raised after all exports.
    """
    from pipeline.export.backbone import export_backbone
    from pipeline.export.detectors import export_detector

    categories = _select("category", categories, params.data.categories)
    detectors = _select("detector", detectors, params.scored_detectors)
    out = out or paths.DATA / "export"
    errors: list[str] = []
    any_reads_features = False
    for category in categories:
        for name in detectors:
            try:
                outcome = export_detector(params, category, name, out / category, tolerance)
            except FileNotFoundError as error:
                raise _missing_file(f"{category} {name}", error) from error
            errors += [outcome.error] if outcome.error else []
            any_reads_features |= outcome.reads_features
    if any_reads_features:
        try:
            backbone_error = export_backbone(params, categories[0], out, tolerance)
        except FileNotFoundError as error:
            raise _missing_file("backbone", error) from error
        errors += [backbone_error] if backbone_error else []
    if errors:
        raise UserError("; ".join(errors))


def _select(what: str, chosen: Sequence[str], known: Sequence[str]) -> Sequence[str]:
    for name in chosen:
        if name not in known:
            raise UserError(f"unknown {what} {name!r}; params.yaml has {', '.join(known)}")
    return chosen or known


def _missing_file(what: str, error: FileNotFoundError) -> UserError:
    return UserError(f"{what}: {error.filename or error} is missing; run `burnish run` first")
