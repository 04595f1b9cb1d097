"""Stage `denoise`: DVT step 1 on some training and validation images, through the item cache."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.compute.fan_out import fan_out
from pipeline.project import paths
from pipeline.project.params import Params
from pipeline.stage_io.items.denoised import CHUNK, DenoiseWork
from pipeline.stage_io.progress import open_cache, progress_bar, report_counts
from pipeline.stage_io.rows import read_manifest, rows_of
from pipeline.stage_io.saving import load_fitted, output
from stages.array_store import RowWriter
from stages.denoise.config import DenoiseConfig
from stages.item_cache import Item
from stages.types import UserError

if TYPE_CHECKING:
    from stages.denoise.per_image.decomposition import Terms

LOGGER = logging.getLogger(__name__)


def denoise(params: Params) -> None:
    """data/denoised: raw.zarr, clean.zarr, artifact.zarr (M, h, w, C) float16, residual.zarr, images.parquet.

    images.parquet has one row per image, including images that failed; the column `row` is the image's row in the
    stores, or -1.
    """
    from stages.denoise.per_image.denoise import chosen_images
    from stages.torch_setup import device_named

    manifest, config = read_manifest(), params.denoise
    sha = manifest["sha256"].to_numpy()

    def chosen(split: str, count: int) -> NDArray[np.int64]:
        rows = rows_of(manifest, None, split, label=0)
        return rows[chosen_images(sha[rows].tolist(), count, params.seed)]

    images = manifest.iloc[np.concatenate([chosen("train", config.images), chosen("validation", config.probe_images)])]
    images = images[["path", "sha256", "category", "split"]].reset_index(drop=True)
    fitted, _ = load_fitted(paths.BACKBONE)
    work = DenoiseWork(fitted, config, params.seed, device_named(params.compute.device))
    keys = work.keys(images["sha256"])
    cache = open_cache(params.compute)

    def payload(i: int) -> tuple[str, bytes]:
        return images["sha256"][i], (paths.RAW / images["path"][i]).read_bytes()

    def items(progress: Callable[[int], None] = lambda done: None) -> Iterator[Item]:
        return fan_out(params.compute, cache, keys, payload, work, CHUNK[work.device], progress)

    bar, set_done = progress_bar("denoise", len(keys))
    with bar:
        images, shared = _overview(images, items(set_done), config)
    counts = (cache.counts.cached, cache.counts.computed)
    with output(paths.DENOISED) as folder:  # reads the items a second time, since they need not fit into memory
        images.to_parquet(folder / "images.parquet", index=False)
        _save(folder, items(), int((images["row"] >= 0).sum()), shared)
    cache.counts.cached, cache.counts.computed = counts
    report_counts("denoise", cache.counts, cache)


Shared = tuple[NDArray[np.float64], float]
"""The artifact of all images together (P, C), and how strongly each image's own artifact is shrunk toward it."""


def _overview(images: pd.DataFrame, items: Iterator[Item], config: DenoiseConfig) -> tuple[pd.DataFrame, Shared | None]:
    """The images with fault, diagnostics and row; the shared artifact, if there is one."""
    from stages.denoise.per_image.shared import SharedArtifact

    faults, diagnostics, shared = [], [], SharedArtifact()
    for split, item in zip(images["split"], items, strict=True):
        faults.append(item["fault"].tobytes().decode() if "fault" in item else "")
        diagnostics.append(item["diagnostics"].tobytes().decode() if "fault" not in item else "")
        if "schur" in item and split == "train":
            shared.add(_terms(item))
    bad = np.array([fault != "" for fault in faults])
    if bad[(images["split"] == "train").to_numpy()].all():
        raise UserError(f"denoise: none of the training images could be denoised; the first: {faults[0]}")
    if bad.any():
        where = paths.DENOISED / "images.parquet"
        first = int(bad.argmax())
        LOGGER.warning(
            f"{bad.sum()} of {len(bad)} images could not be denoised and are left out, the reasons are in {where}; "
            f"the first: {images['path'][first]}: {faults[first]}"
        )
    row = np.where(bad, -1, np.cumsum(~bad) - 1)
    table = images.assign(fault=faults, diagnostics=diagnostics, row=row)
    if not config.shared_artifact:
        return table, None
    return table, (shared.estimate(config.artifact_ridge), config.artifact_ridge)


def _terms(item: Item) -> Terms:
    from stages.denoise.per_image.decomposition import Terms

    return Terms(schur=item["schur"], right=item["right"], response=item["response"])


def _save(folder: Path, items: Iterator[Item], count: int, shared: Shared | None) -> None:
    with ExitStack() as stack:
        names = ("raw", "clean", "artifact", "residual")
        writers = {name: stack.enter_context(RowWriter(folder / f"{name}.zarr", count)) for name in names}
        for item in items:
            if "fault" in item:
                continue
            row = item if shared is None else _shrunk(item, shared)
            for name in names:
                writers[name].append(row[name])


def _shrunk(item: Item, shared: Shared) -> Item:
    """The item with its artifact shrunk toward the shared artifact."""
    from stages.denoise.per_image.shared import shrink_toward

    prior, ridge = shared
    raw = item["raw"].astype(np.float32)
    clean, artifact = shrink_toward(
        item["clean"].astype(np.float32), item["artifact"].astype(np.float32), _terms(item), prior, ridge
    )
    return {
        "raw": item["raw"],
        "clean": clean.astype(np.float16),
        "artifact": artifact.astype(np.float16),
        "residual": np.linalg.norm(raw - clean - artifact, axis=-1).astype(np.float32),
    }
