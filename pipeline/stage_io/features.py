"""Stage `features`: patch tokens and class attention of every image, through the item cache."""

from __future__ import annotations

from contextlib import ExitStack

from pipeline.compute.fan_out import fan_out
from pipeline.project import paths
from pipeline.project.params import Params
from pipeline.stage_io.items.features import FeaturesWork
from pipeline.stage_io.progress import open_cache, progress_bar, report_counts
from pipeline.stage_io.rows import read_manifest
from pipeline.stage_io.saving import load_fitted, output
from stages.array_store import RowWriter


def features(params: Params) -> None:
    """data/features/raw: tokens.zarr (N, h, w, C) and, with a class token, attention.zarr (N, heads, h, w); float16."""
    from stages.torch_setup import device_named

    manifest = read_manifest()
    fitted, _ = load_fitted(paths.BACKBONE)
    work = FeaturesWork(fitted, device_named(params.compute.device))
    keys, cache = work.keys(manifest["sha256"]), open_cache(params.compute)
    files = [paths.RAW / path for path in manifest["path"]]
    bar, set_done = progress_bar("features", len(keys))
    with bar, output(paths.FEATURES) as folder, ExitStack() as stack:
        writers: dict[str, RowWriter] = {}
        for item in fan_out(params.compute, cache, keys, lambda i: files[i].read_bytes(), work, work.chunk, set_done):
            for name, row in item.items():
                if name not in writers:
                    writers[name] = stack.enter_context(RowWriter(folder / f"{name}.zarr", len(keys)))
                writers[name].append(row)
    report_counts("features", cache.counts, cache)
