"""Stage `features`: patch tokens and class attention of every image, through the item cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

import numpy as np

from pipeline import paths
from pipeline.params import Params
from pipeline.stage_io.rows import ImageFiles, read_manifest
from pipeline.stage_io.saving import load_fitted, output
from pipeline.stage_io.session import bar, open_cache, report_counts
from stages.array_store import RowWriter
from stages.item_cache import Item, code_version, item_key

if TYPE_CHECKING:
    from stages.backbone.interface import Backbone

BATCH = 16


def load_backbone(params: Params) -> Backbone:
    """The backbone of data/backbone on the configured device."""
    from stages.backbone.load import load
    from stages.torch_setup import device_named

    fitted, _ = load_fitted(paths.BACKBONE)
    return load(fitted, device_named(params.compute.device))


def features(params: Params) -> None:
    """data/features/raw: tokens.zarr (N, h, w, C) and, with a class token, attention.zarr (N, heads, h, w); float16."""
    manifest = read_manifest()
    backbone = load_backbone(params)
    images = ImageFiles.of(manifest, np.arange(len(manifest)), backbone.image_side)
    cache = open_cache(params.compute)
    code = code_version("stages.backbone", "stages.download.images")
    keys = [
        item_key(image=sha, weights=backbone.digest, parameters="features", code=code) for sha in manifest["sha256"]
    ]

    def compute(missing: Sequence[int]) -> Iterator[Item]:
        found = backbone.extract(images[np.asarray(missing)])
        for i in range(len(missing)):
            item = {"tokens": found.tokens[i].astype(np.float16)}
            if found.attention is not None:
                item["attention"] = found.attention[i].astype(np.float16)
            yield item

    shown, at = bar("features", len(keys))
    with shown, output(paths.FEATURES) as folder, ExitStack() as stack:
        writers: dict[str, RowWriter] = {}
        for item in cache.map(keys, compute, BATCH, at):
            for name, row in item.items():
                if name not in writers:
                    writers[name] = stack.enter_context(RowWriter(folder / f"{name}.zarr", len(keys)))
                writers[name].append(row)
    report_counts("features", cache.counts, cache)
