"""The code that a stage or a cached item depends on, without modules that cannot change a result.

Imports determine it (`stages.code_version.imports_of`). A test compares `deps` of dvc.yaml with `modules_of_stage`.
"""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.project.stage_table import MATRIX, STAGES
from stages.code_version import code_version, imports_of

CANNOT_CHANGE_A_RESULT = {
    "pipeline.project.paths": "where files lie; dvc.yaml names each output, so a moved one is missing",
    "pipeline.project.params": "reads and checks params.yaml; values reach a stage as parameters, which dvc.yaml lists",
    "pipeline.project.stage_table": "which function does a stage; the order in which they are listed",
    "pipeline.project.git": "the commit, for index.html, which is no output of a stage",
    "pipeline.project.stage_warnings": "what stages warn about, for index.html",
    "pipeline.compute": "where the work on images is done; tests hold that the bytes are the same",
    "pipeline.stage_io.progress": "progress bars and the item cache",
    "pipeline.stage_io.dependencies": "this list: it decides what is computed again, not what comes out",
    "stages": "how torch's threads wait for each other",
    "stages.code_version": "digests of code, for keys of cached items",
    "stages.item_cache": "keeps items; tests hold that they come back as they went in",
}
"""Modules and packages that stages import without depending on them, each with the reason."""

FINDS_DETECTORS = "stages.detectors.registry"
"""Finds a detector's module by its name. `train`, `infer` and their items depend on this one detector only."""


SAME_ITEMS: dict[str, str] = {}
"""Digest of code, and the digest of earlier code that computes the same items, to the byte: cached items stay valid if
code was only moved or renamed. A line is of use until its code changes; then delete it."""


def modules_of_stage(stage: str, detector: str | None = None) -> tuple[str, ...]:
    """Modules that the outputs of a stage depend on, sorted.

    Args:
        stage: its name in dvc.yaml, without the part from @ on.
        detector: the detector, for a stage that exists once per category and detector.
    """
    entry = f"pipeline.stage_io.{STAGES[stage][0]}"
    if stage not in MATRIX:
        return imports_of(entry, without=_left_out())
    return imports_of(entry, f"stages.detectors.{detector}.detector", without=_left_out(FINDS_DETECTORS))


def code_of_stage(stage: str, detector: str | None = None) -> str:
    """Digest of the modules that a stage depends on: part of the key of a training's checkpoint."""
    return code_version(*modules_of_stage(stage, detector))


def code_of_item(module: str, detector: str | None = None) -> str:
    """Digest of the code that a cached item depends on: part of the item's key.

    Args:
        module: the module below `pipeline.stage_io.items` that computes the item.
        detector: the detector that it calls.
    """
    digest = digest_of_code(module, detector)
    return SAME_ITEMS.get(digest, digest)


def digest_of_code(module: str, detector: str | None = None) -> str:
    """As `code_of_item`, without regard to earlier code."""
    if detector is None:
        return code_version(*imports_of(module, without=_left_out()))
    entries = (module, f"stages.detectors.{detector}.detector")
    return code_version(*imports_of(*entries, without=_left_out(FINDS_DETECTORS)))


def code_of_predictions(detectors: Iterable[str]) -> str:
    """Digest of the code that decides on a new image: features, denoiser, detectors and their fusion."""
    items = (f"pipeline.stage_io.items.{name}" for name in ("features", "clean", "scores"))
    entries = (*items, "stages.fusion.fusion", *(f"stages.detectors.{name}.detector" for name in detectors))
    return code_version(*imports_of(*entries, without=_left_out(FINDS_DETECTORS)))


def _left_out(*more: str) -> tuple[str, ...]:
    return (*(name for name in CANNOT_CHANGE_A_RESULT if name != "stages"), *more)
