"""Stage `train_denoiser`: DVT steps 2 and 3."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pandas as pd

from pipeline.project import paths
from pipeline.project.params import Params
from pipeline.stage_io.dependencies import code_of_stage
from pipeline.stage_io.rows import ImageFiles, read_manifest, rows_of
from pipeline.stage_io.saving import load_fitted, output, save_fitted
from pipeline.stage_io.session import digest_of, training
from stages.array_store import StoredRows
from stages.types import Fitted

if TYPE_CHECKING:
    from stages.training import Session


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
        code_of_stage("train_denoiser"),
    )
    device = device_named(params.compute.device)
    with output(paths.DENOISER) as folder:
        with training("train_denoiser", folder / "curves", device, key) as session:
            fitted = train(raw, clean, params.denoiser, params.seed, session)
            save_fitted(folder, fitted)
        if params.distill.epochs:
            good = json.loads(paths.NORMALS.read_text())  # all good images, more than DVT step 1 ran on
            key = digest_of(key, good, params.distill.model_dump(mode="json"))
            with training("distill", folder / "distilled" / "curves", device, key) as session:
                save_fitted(folder / "distilled", _distilled(params, backbone, fitted, session))


def _distilled(params: Params, backbone: Fitted, denoiser: Fitted, session: Session) -> Fitted:
    from stages.backbone.distill import distill
    from stages.denoise.denoiser import apply_denoiser

    manifest, side = read_manifest(), backbone.info["image_side"]
    images, validation = (
        ImageFiles.from_manifest(manifest, rows_of(manifest, None, split, label=0), side)
        for split in ("train", "validation")
    )
    targets = apply_denoiser(denoiser, session.device)
    return distill(backbone, targets, images, validation, params.distill, params.seed, session)
