"""Stages `train_denoiser` (DVT stages 2 and 3) and `clean_features` (clean tokens of every image)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pipeline import paths
from pipeline.fan_out import fan_out
from pipeline.params import Params
from pipeline.stage_io.features import FeaturesWork
from pipeline.stage_io.rows import ImageFiles, read_manifest, rows_of
from pipeline.stage_io.saving import load_fitted, output, save_fitted
from pipeline.stage_io.session import bar, digest_of, open_cache, report_counts, training
from stages.array_store import RowWriter, StoredRows
from stages.item_cache import Item, ItemCache, code_version, item_key
from stages.types import Fitted, Rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from stages.training import Session

BATCH = 16


def train_denoiser(params: Params) -> None:
    """data/models/denoiser: model.safetensors, model.json, curves/; with `distill.epochs`, the same in distilled/."""
    from stages.denoise.denoiser import train_denoiser as train
    from stages.torch_setup import device_named

    images = pd.read_parquet(paths.DENOISED / "images.parquet")
    rows = images.loc[(images["split"] == "train") & (images["row"] >= 0), "row"].to_numpy()
    raw, clean = (StoredRows(paths.DENOISED / f"{name}.zarr")[rows] for name in ("raw", "clean"))
    backbone, digest = load_fitted(paths.BACKBONE)
    key = digest_of(
        images["sha256"].tolist(),
        digest,
        params.denoise.model_dump(mode="json"),
        params.denoiser.model_dump(mode="json"),
        params.seed,
        code_version("stages.denoise", "stages.training"),
    )
    device = device_named(params.compute.device)
    with output(paths.DENOISER) as folder:
        with training("train_denoiser", folder / "curves", device, key) as session:
            fitted = train(raw, clean, params.denoiser, params.seed, session)
            save_fitted(folder, fitted)
        if params.distill.epochs:
            learnt = json.loads(paths.NORMALS.read_text())  # all normal images, more than stage 1 ran on
            key = digest_of(key, learnt, params.distill.model_dump(mode="json"), code_version("stages.backbone"))
            with training("distill", folder / "distilled" / "curves", device, key) as session:
                save_fitted(folder / "distilled", _distilled(params, backbone, fitted, session))


def _distilled(params: Params, backbone: Fitted, denoiser: Fitted, session: Session) -> Fitted:
    from stages.backbone.distill import distill
    from stages.denoise.denoiser import apply_denoiser

    manifest, side = read_manifest(), backbone.info["image_side"]
    images, validation = (
        ImageFiles.of(manifest, rows_of(manifest, None, split, label=0), side) for split in ("train", "validation")
    )
    targets = apply_denoiser(denoiser, session.device)
    return distill(backbone, targets, images, validation, params.distill, params.seed, session)


def clean_features(params: Params) -> None:
    """data/features/clean: tokens.zarr (N, h, w, C) float16, what the denoiser makes of every image's tokens."""
    manifest, cache = read_manifest(), open_cache(params.compute)
    shown, at = bar("clean_features", len(manifest))
    distilled = (paths.DENOISER / "distilled").is_dir()
    items = (_by_backbone if distilled else _by_denoiser)(params, manifest, cache, at)
    with output(paths.CLEAN) as folder, shown, RowWriter(folder / "tokens.zarr", len(manifest)) as writer:
        for item in items:
            writer.append(item["tokens"])
    report_counts("clean_features", cache.counts, cache)


def _by_denoiser(
    params: Params, manifest: pd.DataFrame, cache: ItemCache, progress: Callable[[int], None]
) -> Iterator[Item]:
    from stages.denoise.denoiser import apply_denoiser
    from stages.torch_setup import device_named

    raw: Rows = StoredRows(paths.FEATURES / "tokens.zarr")
    fitted, digest = load_fitted(paths.DENOISER)
    _, backbone = load_fitted(paths.BACKBONE)
    device = device_named(params.compute.device)
    apply = apply_denoiser(fitted, device)
    code = code_version("stages.denoise.denoiser")
    parameters: Any = ["clean", backbone, device]
    keys = [item_key(image=sha, weights=digest, parameters=parameters, code=code) for sha in manifest["sha256"]]

    def compute(missing: Sequence[int]) -> Iterator[Item]:
        for tokens in apply(raw[np.asarray(missing)].astype(np.float32)):
            yield {"tokens": tokens.astype(np.float16)}

    return cache.map(keys, compute, BATCH, progress)


def _by_backbone(
    params: Params, manifest: pd.DataFrame, cache: ItemCache, progress: Callable[[int], None]
) -> Iterator[Item]:
    """With a distilled backbone, extraction alone gives clean tokens."""
    from stages.torch_setup import device_named

    fitted, _ = load_fitted(paths.DENOISER / "distilled")
    work = FeaturesWork(fitted, device_named(params.compute.device))
    files = [paths.RAW / path for path in manifest["path"]]
    keys = work.keys(manifest["sha256"])
    return fan_out(params.compute, cache, keys, lambda i: files[i].read_bytes(), work, work.chunk, progress)
