"""Small projects of any shape. The outputs of stages up to `infer` and `probe` are random; `score` really runs."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray
from PIL import Image

from pipeline.project import paths
from pipeline.project.params import Params, load_params
from pipeline.stage_io.saving import write_json
from pipeline.stage_io.score import score
from stages.array_store import write_rows
from stages.fusion.members import FUSION


@dataclass(frozen=True)
class Shape:
    """Size and contents of a project."""

    categories: Sequence[str] = ("plate",)
    detectors: Sequence[str] = ("ear", "knn", "pca")
    good: int = 6
    """Good test images."""
    bad: int = 6
    """Defective ones."""
    validation: int = 20
    types: Sequence[str] = ("dent", "scratch")
    masks: bool = True
    size: tuple[int, int] = (48, 40)
    """Width and height of the images."""
    grain: int = 1
    """Side in pixels of blocks of noise. Finer noise is unlike a photograph and takes much more space as WebP."""
    map_side: int = 8
    first: str = "part0000.png"
    """Name of the first test image."""


EVIL = "<img src=x onerror=console.error(1)>"
SHAPES = {
    "whole": Shape(first=f"{EVIL}.png", types=(f"{EVIL}&", "dent")),
    "two": Shape(categories=("left", "right"), detectors=("ear", "pca"), masks=False),
    "no good": Shape(detectors=("knn", "pca"), good=0),
    "no bad": Shape(detectors=("knn", "pca"), bad=0),
    "no threshold": Shape(detectors=("knn",), validation=0),
    "one baseline": Shape(detectors=("pca",), good=2, bad=1, types=("dent",)),
}


def make_run(folder: Path, shape: Shape) -> Params:
    """Write all that the report reads below `folder`; returns the parameters. The working directory does not change."""
    sections = {"data": {"source": "folder", "categories": list(shape.categories)}, "detectors": list(shape.detectors)}
    sections["score"] = {"resamples": 50, "pixel_side": 32, "target_overkill": 0.1}
    (folder / paths.PARAMS).write_text(yaml.safe_dump(sections))
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()):
        params = load_params()
        manifest = pd.concat([_images(shape, category) for category in shape.categories], ignore_index=True)
        manifest.to_parquet(paths.MANIFEST)
        paths.REJECTED.write_text("path,category,reason\n")
        for category in shape.categories:
            for detector in params.scored_detectors:
                _write_predictions(params, shape, category, detector, manifest)
        for fitted in (paths.BACKBONE, paths.DENOISER):
            write_json(fitted / "model.json", {"info": {}, "metrics": {"loss": 0.5}})
        _write_audit(shape, manifest)
        _write_probe(shape)
        score(params)
    return params


def _images(shape: Shape, category: str) -> pd.DataFrame:
    """Write the image files of a category; returns their rows of the manifest."""
    kinds = [("test", 0)] * shape.good + [("test", 1)] * shape.bad
    kinds += [("validation", 0)] * shape.validation + [("train", 0)] * 4
    rows = []
    for number, (split, label) in enumerate(kinds):
        path = f"images/{category}/{shape.first if number == 0 else f'part{number:04}.png'}"
        generator = np.random.default_rng(number)
        width, height = (max(1, side // shape.grain) for side in shape.size)
        coarse = Image.fromarray(generator.integers(60, 200, (height, width, 3)).astype(np.uint8))
        _save(path, np.asarray(coarse.resize(shape.size, Image.Resampling.BICUBIC)))
        mask = ""
        if label and shape.masks:
            mask = f"masks/{category}/part{number:04}.png"
            marked = np.zeros(shape.size[::-1], np.uint8)
            marked[10:20, 10:20] = 255
            _save(mask, marked)
        kind = shape.types[number % len(shape.types)] if label else ""
        digest = hashlib.sha256(f"{category}{number}".encode()).hexdigest()
        row = {"path": path, "sha256": digest, "category": category, "split": split, "label": label}
        rows.append({**row, "defect_type": kind, "mask_path": mask, "group": str(number)})
    return pd.DataFrame(rows)


def _save(path: str, pixels: NDArray[np.uint8]) -> None:
    (paths.RAW / path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(paths.RAW / path)


def _write_predictions(params: Params, shape: Shape, category: str, detector: str, manifest: pd.DataFrame) -> None:
    """Write scores, maps, pictures and the model of a detector."""
    seed = [params.scored_detectors.index(detector), shape.categories.index(category)]
    generator = np.random.default_rng(seed)
    table = manifest[(manifest["category"] == category) & (manifest["split"] != "train")]
    table = table[["path", "sha256", "split", "label", "defect_type", "mask_path", "group"]].reset_index(drop=True)
    maps = generator.random((len(table), shape.map_side, shape.map_side)).astype(np.float32)
    maps[table["label"] == 1, 2:4, 2:4] += 1
    extras: dict[str, Any] = {"extra_other": generator.random(len(table))}
    if detector == FUSION:
        members = params.fused_detectors
        extras = {f"extra_without_{name}": generator.random(len(table)) + table["label"] for name in members}
    folder = paths.maps(category, detector)
    folder.mkdir(parents=True, exist_ok=True)
    scores = maps.max(axis=(1, 2)).astype(np.float64)
    table.assign(**extras, image_score=scores).to_parquet(folder / "scores.parquet")
    write_rows(folder / "maps.zarr", maps, len(maps))
    if detector == "ear":
        pixels = generator.integers(0, 255, (len(table), 16, 16, 3)).astype(np.uint8)
        write_rows(folder / "picture_restoration.zarr", pixels, len(pixels))
        for name in ("mask", "mask_attention"):
            mask = (generator.random((len(table), 16, 16)) > 0.7).astype(np.float16)
            write_rows(folder / f"picture_{name}.zarr", mask, len(mask))
    write_json(paths.model(category, detector) / "model.json", {"info": {}, "metrics": {}})


def _write_audit(shape: Shape, manifest: pd.DataFrame) -> None:
    """Write one pair and one suspect per category."""
    found, pairs, suspects = {}, [], []
    for category in shape.categories:
        own = manifest[manifest["category"] == category]
        test, train = own[own["split"] == "test"]["path"].tolist(), own[own["split"] == "train"]["path"].tolist()
        near = {"different_bits": 9, "similarity": 6.5, "identical": False, "near_duplicates": 1}
        if test:
            where = {"category": category, "split": "test", "label": 0, "other_split": "train"}
            pairs.append({"path": test[0], "other_path": train[0], **near, **where})
        suspect = {"path": train[1], "category": category, "group": "1", "score": 9.0, "deviation": 4.5}
        suspects.append({**suspect, "suspect": True})
        images = {"train": len(train), "validation": shape.validation, "test": shape.good}
        share = round(1 / shape.good, 6) if shape.good else None
        found[category] = {
            "images": images,
            "with_a_near_duplicate": {"validation": 0, "test": min(1, shape.good)},
            "share_with_a_near_duplicate": {"validation": 0.0 if shape.validation else None, "test": share},
            "max_leak_fraction": 0.2,
            "leaks": None if share is None else share > 0.2,
            "identical_across_splits": 0,
            "defects_like_a_good_image": 0,
            "defects_identical_to_a_good_image": 0,
            "suspects": 1,
        }
    write_json(paths.AUDIT / "audit.json", found)
    columns = ["path", "other_path", "near_duplicates", "different_bits", "similarity"]
    columns += ["category", "split", "label", "other_split", "identical"]
    pd.DataFrame(pairs, columns=columns).to_csv(paths.AUDIT / "pairs.csv", index=False)
    pd.DataFrame(suspects).to_csv(paths.AUDIT / "suspects.csv", index=False)


def _write_probe(shape: Shape) -> None:
    kinds = ("raw", "mean_artifact", "stage_1", "denoiser")
    both = shape.good and shape.bad
    nearest = {name: {"value": 0.8, "ci": [0.7, 0.9]} for name in ("raw", "mean_artifact", "clean")}
    nearest["difference"] = {"value": -0.03, "ci": [-0.05, -0.01]}
    result = {"image_auroc": 0.75, "reason": None} if both else {"image_auroc": None, "reason": "one class is missing"}
    found = {
        "images": {"train": 3, "validation": 2, "left_out": 0},
        "held_out_r2": 0.5,
        "positional_leakage": dict.fromkeys(kinds, 0.6) if shape.validation else None,
        "error_to_stage_1": dict.fromkeys(("raw", "mean_artifact", "denoiser"), 0.3) if shape.validation else None,
        "nearest_neighbour": dict.fromkeys(shape.categories, nearest if both else None),
        "labelled": {category: {"knn": result, "linear": result} for category in shape.categories},
    }
    paths.PROBE.mkdir(parents=True, exist_ok=True)
    (paths.PROBE / "probe.json").write_text(json.dumps(found))
    Image.new("RGB", (120, 60), "grey").save(paths.PROBE / "denoising.png")
