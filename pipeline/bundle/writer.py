"""Write the bundle: all that predictions on new images need, in one folder that may be copied to another machine.

    bundle.json           thresholds, metrics, facts about the training images, provenance, and the sha256 of each
                          file; replaced last, in one rename
    vN/params.json        all parameters
    vN/backbone, vN/denoiser, vN/detectors/CATEGORY/DETECTOR, vN/fused/CATEGORY
                          model.safetensors and model.json of each model

A new bundle is written to a new folder vN. bundle.json names that folder once it is complete; then the old folder is
removed. So a reader finds the old or the new bundle, never an incomplete bundle, even if the writer is killed.

The bundle is in data/bundle and not below data/models, because the stage `score` depends on all of data/models and
would run again after each new bundle.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.bundle.contents import map_limits, training_images
from pipeline.bundle.layout import FORMAT, INDEX, MODEL_FILES, digest_of, model_part
from pipeline.bundle.provenance import lock_digest, provenance
from pipeline.project import paths
from pipeline.project.faults import explain_fault
from pipeline.project.params import Params
from pipeline.stage_io.saving import output, write_json
from stages.types import UserError

RUN_FIRST = "run `burnish run`, which makes this file and the bundle"


def make_bundle(params: Params, root: Path, out: Path | None = None) -> Path:
    """Write the bundle of a project whose stages have all run; returns its folder.

    Args:
        out: folder of the bundle; None: data/bundle of the project.

    Raises:
        UserError: a model or a metric is missing, or `out` holds something else than a bundle.
    """
    folder = root / paths.BUNDLE if out is None else out
    _check_free(folder)
    version = f"v{1 + max((int(old.name[1:]) for old in _versions(folder)), default=0)}"
    try:
        facts = _facts(params, root)
        files = _copy_models(params, root, folder, version)
    except FileNotFoundError as fault:
        raise UserError(f"{fault.filename or fault} is missing: {RUN_FIRST}") from fault
    except OSError as fault:
        raise UserError(explain_fault(fault)[1] or f"{folder}: {fault}") from fault
    index = {**facts, "format": FORMAT, "folder": version, "files": files}
    write_json(folder / INDEX, {**index, "digest": digest_of(index)})
    for old in _versions(folder):
        if old.name != version:
            shutil.rmtree(old)
    return folder


def is_current(root: Path) -> bool:
    """Whether data/bundle was made from the current dvc.lock. Reads two small files."""
    try:
        content = json.loads((root / paths.BUNDLE / INDEX).read_text("utf-8"))
        return content["format"] == FORMAT and content["provenance"]["dvc_lock"] == lock_digest(root)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _parts(params: Params) -> Iterator[tuple[str, Path]]:
    """The name in the bundle and the folder in the project of each model."""
    yield "backbone", paths.BACKBONE
    yield "denoiser", paths.DENOISER
    if params.distill.epochs:
        yield "denoiser/distilled", paths.DENOISER / "distilled"
    for category in params.data.categories:
        for name in params.scored_detectors:
            yield model_part(category, name), paths.model(category, name)


def _copy_models(params: Params, root: Path, folder: Path, version: str) -> dict[str, str]:
    """Write the folder vN, completely or not at all; returns the sha256 of its files by path."""
    with output(folder / version) as new:
        write_json(new / "params.json", params.model_dump(mode="json"))
        for part, source in _parts(params):
            (new / part).mkdir(parents=True, exist_ok=True)
            for name in MODEL_FILES:
                shutil.copyfile(
                    root / source / name, new / part / name
                )  # not a link, so that later changes do not reach it
        return {
            f"{version}/{path.relative_to(new).as_posix()}": _digest(path)
            for path in sorted(new.rglob("*"))
            if path.is_file()
        }


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _versions(folder: Path) -> list[Path]:
    return [path for path in folder.glob("v*") if re.fullmatch(r"v\d+", path.name)] if folder.is_dir() else []


def _check_free(folder: Path) -> None:
    """Raises UserError unless the folder holds a bundle or is empty, because old versions are removed from it."""
    if folder.exists() and not (folder.is_dir() and ((folder / INDEX).is_file() or not any(folder.glob("[!.]*")))):
        raise UserError(f"{folder} holds something else than a bundle: choose an empty or a new folder")


def _facts(params: Params, root: Path) -> dict[str, Any]:
    """The content of bundle.json without the entries about its files."""
    try:
        metrics = json.loads((root / paths.METRICS).read_text("utf-8"))
    except ValueError as fault:
        raise UserError(f"{root / paths.METRICS} is not JSON: {RUN_FIRST}") from fault
    thresholds: dict[str, dict[str, Any]] = {}
    for category in params.data.categories:
        for name in params.scored_detectors:
            values = metrics.get(category, {}).get(name)
            if values is None:
                raise UserError(f"{root / paths.METRICS} has no metrics of {category} {name}: {RUN_FIRST}")
            threshold = {"value": values["threshold"], "note": values["threshold_note"]}
            thresholds.setdefault(category, {})[name] = threshold
    return {
        "metrics": metrics,
        "thresholds": thresholds,
        "training_images": training_images(params, root),
        "map_limits": {
            category: {name: map_limits(root / paths.maps(category, name)) for name in params.scored_detectors}
            for category in thresholds
        },
        "provenance": provenance(root),
    }
