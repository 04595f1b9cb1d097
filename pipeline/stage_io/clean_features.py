"""Stage `clean_features`: clean tokens of every image."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pandas as pd

from pipeline.compute.fan_out import fan_out
from pipeline.project import paths
from pipeline.project.params import Params
from pipeline.stage_io.items.features import FeaturesWork
from pipeline.stage_io.progress import open_cache, progress_bar, report_counts
from pipeline.stage_io.rows import read_manifest
from pipeline.stage_io.saving import load_fitted, output
from stages.array_store import RowWriter, StoredRows
from stages.item_cache import Item, ItemCache
from stages.types import Rows

BATCH = 16


def clean_features(params: Params) -> None:
    """data/features/clean: tokens.zarr (N, h, w, C) float16, the denoiser's output for every image's tokens."""
    manifest, cache = read_manifest(), open_cache(params.compute)
    bar, set_done = progress_bar("clean_features", len(manifest))
    distilled = (paths.DENOISER / "distilled").is_dir()
    items = (_by_backbone if distilled else _by_denoiser)(params, manifest, cache, set_done)
    with output(paths.CLEAN) as folder, bar, RowWriter(folder / "tokens.zarr", len(manifest)) as writer:
        for item in items:
            writer.append(item["tokens"])
    report_counts("clean_features", cache.counts, cache)


def _by_denoiser(
    params: Params, manifest: pd.DataFrame, cache: ItemCache, progress: Callable[[int], None]
) -> Iterator[Item]:
    from pipeline.stage_io.items.clean import CleanTokens
    from stages.torch_setup import device_named

    raw: Rows = StoredRows(paths.FEATURES / "tokens.zarr")
    _, backbone = load_fitted(paths.BACKBONE)
    work = CleanTokens(*load_fitted(paths.DENOISER), backbone, device_named(params.compute.device))
    return cache.map(work.keys(manifest["sha256"]), lambda rows: work.items(raw, rows), BATCH, progress)


def _by_backbone(
    params: Params, manifest: pd.DataFrame, cache: ItemCache, progress: Callable[[int], None]
) -> Iterator[Item]:
    """With a distilled backbone, its tokens are the clean tokens."""
    from stages.torch_setup import device_named

    fitted, _ = load_fitted(paths.DENOISER / "distilled")
    work = FeaturesWork(fitted, device_named(params.compute.device))
    files = [paths.RAW / path for path in manifest["path"]]
    keys = work.keys(manifest["sha256"])
    return fan_out(params.compute, cache, keys, lambda i: files[i].read_bytes(), work, work.chunk, progress)
