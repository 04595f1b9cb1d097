"""Stage `inputs`: digests of exactly what each training and each inference reads.

`train` and `infer` depend on these small files instead of on all images and features. So a new test image, another
category, or features that a detector does not read do not train this detector again.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.project import paths
from pipeline.project.params import Params
from pipeline.stage_io.rows import read_manifest, rows_of
from pipeline.stage_io.saving import output, write_json
from stages.array_store import StoredRows
from stages.detectors.registry import CONFIGS
from stages.types import batches

SPLITS = {"train": ("train", "validation"), "infer": ("validation", "test")}
"""Splits that each stage reads."""


def inputs(params: Params) -> None:
    """data/inputs/CATEGORY/DETECTOR/{train,infer}.json."""
    manifest = read_manifest()
    with output(paths.INPUTS) as folder:
        for category in params.data.categories:
            for stage, splits in SPLITS.items():
                rows = rows_of(manifest, category, *splits)
                images = manifest.drop(columns="phash").iloc[rows].to_dict("records")  # no detector reads it
                features: dict[str, str] | None = None
                for detector in params.detectors:
                    content: dict[str, Any] = {"images": images}
                    if CONFIGS[detector].reads_backbone:
                        features = features or _features(rows)
                        content["features"] = features
                    write_json(folder / category / detector / f"{stage}.json", content)


def _features(rows: NDArray[np.int64]) -> dict[str, str]:
    stores = {"raw": paths.FEATURES / "tokens.zarr", "clean": paths.CLEAN / "tokens.zarr"}
    attention = paths.FEATURES / "attention.zarr"
    if attention.exists():
        stores["attention"] = attention
    return {name: _digest(path, rows) for name, path in stores.items()}


def _digest(path: Path, rows: NDArray[np.int64]) -> str:
    stored, total = StoredRows(path), hashlib.sha256()
    total.update(f"{stored.dtype}{stored.shape[1:]}".encode())
    for part in batches(len(rows), 64):
        total.update(stored[rows[part]].tobytes())
    return total.hexdigest()
