"""The bundle: all that judging a new image needs, in one folder that may be copied to another machine.

    bundle.json           parameters' digest, thresholds, metrics, what the training images were like, provenance,
                          and the sha256 of each file; replaced in one rename, last
    vN/params.json        all parameters
    vN/backbone, vN/denoiser, vN/detectors/CATEGORY/DETECTOR, vN/fused/CATEGORY
                          each model.safetensors and model.json

A new bundle is a new vN, which bundle.json names once it is whole; then the old one goes. So a reader finds the old or
the new bundle, never half of one, whenever its maker is killed.

It lies in data/bundle and not below data/models, on which the stage `score` depends as a whole: there, each new bundle
would make that stage run again.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.bundle.contents import map_limits, training_images
from pipeline.bundle.provenance import lock_digest, provenance
from pipeline.project import paths
from pipeline.project.faults import explain
from pipeline.project.params import Params
from pipeline.stage_io.saving import output, write_json
from stages.fusion.members import FUSION
from stages.types import UserError

FORMAT = 1
"""To be raised whenever a reader of the old layout would misread the new one."""
INDEX = "bundle.json"
MODEL_FILES = ("model.safetensors", "model.json")
RUN_FIRST = "run `burnish run`, which makes it and the bundle"


def make_bundle(params: Params, root: Path, out: Path | None = None) -> Path:
    """Gather the bundle of a project whose stages have all run; its folder comes back.

    Args:
        out: where it goes; None: data/bundle of the project.

    Raises:
        UserError: a model, the metrics or a figure of them is not there, or `out` holds something else.
    """
    folder = root / paths.BUNDLE if out is None else out
    _check_free(folder)
    version = f"v{1 + max((int(old.name[1:]) for old in _versions(folder)), default=0)}"
    try:
        about = _about(params, root)
        files = _copied(params, root, folder, version)
    except FileNotFoundError as fault:
        raise UserError(f"{fault.filename or fault} is missing: {RUN_FIRST}") from fault
    except OSError as fault:
        raise UserError(explain(fault)[1] or f"{folder}: {fault}") from fault
    index = {**about, "format": FORMAT, "folder": version, "files": files}
    write_json(folder / INDEX, {**index, "digest": digest_of(index)})
    for old in _versions(folder):
        if old.name != version:
            shutil.rmtree(old)
    return folder


def is_current(root: Path) -> bool:
    """Whether data/bundle was made from this dvc.lock; reads two small files."""
    try:
        content = json.loads((root / paths.BUNDLE / INDEX).read_text("utf-8"))
        return content["format"] == FORMAT and content["provenance"]["dvc_lock"] == lock_digest(root)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _parts(params: Params) -> Iterator[tuple[str, Path]]:
    """Name in the bundle and folder in the project of each model."""
    yield "backbone", paths.BACKBONE
    yield "denoiser", paths.DENOISER
    if params.distill.epochs:
        yield "denoiser/distilled", paths.DENOISER / "distilled"
    for category in params.data.categories:
        for name in params.scored_detectors:
            yield model_part(category, name), paths.model(category, name)


def model_part(category: str, detector: str) -> str:
    """A detector's (or the fusion's) name in the bundle."""
    return f"fused/{category}" if detector == FUSION else f"detectors/{category}/{detector}"


def _copied(params: Params, root: Path, folder: Path, version: str) -> dict[str, str]:
    """Write vN, whole or not at all; digests of its files by path."""
    with output(folder / version) as new:
        write_json(new / "params.json", params.model_dump(mode="json"))
        for part, source in _parts(params):
            (new / part).mkdir(parents=True, exist_ok=True)
            for name in MODEL_FILES:
                shutil.copyfile(root / source / name, new / part / name)  # a copy: what changes later stays outside
        return {
            f"{version}/{path.relative_to(new).as_posix()}": _digest(path)
            for path in sorted(new.rglob("*"))
            if path.is_file()
        }


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(index: Mapping[str, Any]) -> str:
    """sha256 of bundle.json without its digest."""
    return hashlib.sha256(json.dumps(index, sort_keys=True).encode()).hexdigest()


def _versions(folder: Path) -> list[Path]:
    return [path for path in folder.glob("v*") if re.fullmatch(r"v\d+", path.name)] if folder.is_dir() else []


def _check_free(folder: Path) -> None:
    """Old versions are removed, so the folder must be a bundle's or empty."""
    if folder.exists() and not (folder.is_dir() and ((folder / INDEX).is_file() or not any(folder.glob("[!.]*")))):
        raise UserError(f"{folder} holds something that is no bundle: choose an empty or a new folder")


def _about(params: Params, root: Path) -> dict[str, Any]:
    """All of bundle.json but what it says of the files."""
    try:
        metrics = json.loads((root / paths.METRICS).read_text("utf-8"))
    except ValueError as fault:
        raise UserError(f"{root / paths.METRICS} is not JSON: {RUN_FIRST}") from fault
    thresholds: dict[str, dict[str, Any]] = {}
    for category in params.data.categories:
        for name in params.scored_detectors:
            values = metrics.get(category, {}).get(name)
            if values is None:
                raise UserError(f"{root / paths.METRICS} says nothing of {category} {name}: {RUN_FIRST}")
            one = {"value": values["threshold"], "note": values["threshold_note"]}
            thresholds.setdefault(category, {})[name] = one
    return {
        "metrics": metrics,
        "thresholds": thresholds,
        "training_images": training_images(params, root),
        "map_limits": {
            c: {n: map_limits(root / paths.maps(c, n)) for n in params.scored_detectors} for c in thresholds
        },
        "provenance": provenance(root),
    }
