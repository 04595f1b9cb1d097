"""Stage `denoise`: DVT stage 1 on a subset of the training images, through the item cache."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline import paths
from pipeline.params import Params
from pipeline.stage_io.features import load_backbone
from pipeline.stage_io.rows import read_manifest, rows_of
from pipeline.stage_io.saving import output
from pipeline.stage_io.session import bar, open_cache, report_counts
from stages.array_store import RowWriter
from stages.download.images import decode
from stages.item_cache import Item, code_version, item_key
from stages.types import UserError


def denoise(params: Params) -> None:
    """data/denoised: raw.zarr, clean.zarr, artifact.zarr (M, h, w, C) float16, residual.zarr, images.parquet."""
    from stages.denoise.denoise import chosen_images, denoise_image

    manifest, backbone, config = read_manifest(), load_backbone(params), params.denoise
    train = rows_of(manifest, None, "train")
    rows = train[chosen_images(manifest["sha256"].to_numpy()[train].tolist(), config, params.seed)]
    cache = open_cache(params.compute)
    code = code_version("stages.denoise", "stages.backbone", "stages.download.images")
    parameters = {"denoise": config.model_dump(mode="json", exclude={"images"}), "seed": params.seed}
    digests = manifest["sha256"].to_numpy()[rows].tolist()
    keys = [item_key(image=sha, weights=backbone.digest, parameters=parameters, code=code) for sha in digests]
    files = [paths.RAW / path for path in manifest["path"].to_numpy()[rows]]

    def compute(missing: Sequence[int]) -> Iterator[Item]:
        for i in missing:
            image = np.asarray(decode(files[i].read_bytes()))
            try:
                done = denoise_image(image, backbone, config, params.seed, digests[i])
            except UserError as fault:  # one bad image never stops the others: it is recorded and left out
                yield {"fault": _text(str(fault))}
                continue
            yield {
                "raw": done.raw.astype(np.float16),
                "clean": done.clean.astype(np.float16),
                "artifact": done.artifact.astype(np.float16),
                "residual": done.residual.astype(np.float32),
                "diagnostics": _text(json.dumps(dict(done.diagnostics), sort_keys=True)),
            }

    shown, at = bar("denoise", len(keys))
    with shown, output(paths.DENOISED) as folder:
        items = list(cache.map(keys, compute, progress=at))
        _save(folder, items, manifest.iloc[rows])
    report_counts("denoise", cache.counts, cache)


def _text(value: str) -> NDArray[np.uint8]:
    return np.frombuffer(value.encode(), np.uint8)


def _save(folder: Any, items: list[Item], images: pd.DataFrame) -> None:
    whole = [item for item in items if "fault" not in item]
    faults = [item["fault"].tobytes().decode() if "fault" in item else "" for item in items]
    if not whole:
        raise UserError(f"denoise: not one of {len(items)} images could be denoised; the first: {faults[0]}")
    table = images[["path", "sha256", "category"]].reset_index(drop=True)
    table["fault"] = faults
    table["diagnostics"] = [item["diagnostics"].tobytes().decode() if "diagnostics" in item else "" for item in items]
    table.to_parquet(folder / "images.parquet", index=False)
    with ExitStack() as stack:
        for name in ("raw", "clean", "artifact", "residual"):
            writer = stack.enter_context(RowWriter(folder / f"{name}.zarr", len(whole)))
            for item in whole:
                writer.append(item[name])
    if len(whole) < len(items):
        print(f"denoise: {len(items) - len(whole)} images left out; the reasons are in {paths.DENOISED}/images.parquet")
