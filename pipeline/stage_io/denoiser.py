"""Stages `train_denoiser` (DVT stage 2) and `clean_features` (the denoiser on every image)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from pipeline import paths
from pipeline.params import Params
from pipeline.stage_io.rows import read_manifest, rows_of
from pipeline.stage_io.saving import load_fitted, output, save_fitted, write_json
from pipeline.stage_io.session import bar, digest_of, open_cache, report_counts, training
from stages.array_store import RowWriter, StoredRows
from stages.item_cache import Item, code_version, item_key
from stages.types import Rows, Subset

BATCH = 16
LEAKAGE_IMAGES = 256
"""Images on which positional leakage is measured: it settles with a few dozen."""


def train_denoiser(params: Params) -> None:
    """data/models/denoiser: model.safetensors, model.json, curves/."""
    from stages.denoise.denoiser import train_denoiser as train
    from stages.torch_setup import device_named

    raw, clean = StoredRows(paths.DENOISED / "raw.zarr"), StoredRows(paths.DENOISED / "clean.zarr")
    images = pd.read_parquet(paths.DENOISED / "images.parquet")
    _, backbone = load_fitted(paths.BACKBONE)
    key = digest_of(
        images["sha256"].tolist(),
        backbone,
        params.denoise.model_dump(mode="json"),
        params.denoiser.model_dump(mode="json"),
        params.seed,
        code_version("stages.denoise", "stages.training"),
    )
    device = device_named(params.compute.device)
    with output(paths.DENOISER) as folder, training("train_denoiser", folder / "curves", device, key) as session:
        fitted = train(raw[:], clean[:], params.denoiser, params.seed, session)
        save_fitted(folder, fitted)


def clean_features(params: Params) -> None:
    """data/features/clean: tokens.zarr (N, h, w, C) float16, the denoiser's output for every image."""
    from stages.denoise.denoiser import apply_denoiser
    from stages.torch_setup import device_named

    manifest = read_manifest()
    raw = StoredRows(paths.FEATURES / "tokens.zarr")
    fitted, digest = load_fitted(paths.DENOISER)
    _, backbone = load_fitted(paths.BACKBONE)
    apply = apply_denoiser(fitted, device_named(params.compute.device))
    cache = open_cache(params.compute)
    code = code_version("stages.denoise.denoiser")
    keys = [
        item_key(image=sha, weights=digest, parameters=["clean", backbone], code=code) for sha in manifest["sha256"]
    ]

    def compute(missing: Sequence[int]) -> Iterator[Item]:
        for tokens in apply(raw[np.asarray(missing)].astype(np.float32)):
            yield {"tokens": tokens.astype(np.float16)}

    shown, at = bar("clean_features", len(keys))
    with output(paths.CLEAN) as folder:
        with shown, RowWriter(folder / "tokens.zarr", len(keys)) as writer:
            for item in cache.map(keys, compute, BATCH, at):
                writer.append(item["tokens"])
        write_json(folder / "leakage.json", _leakage(manifest, raw, StoredRows(folder / "tokens.zarr")))
    report_counts("clean_features", cache.counts, cache)


def _leakage(manifest: pd.DataFrame, raw: Rows, clean: Rows) -> dict[str, float]:
    """How well a patch's place can be read from raw and from clean features (R^2).

    Fitted on at most LEAKAGE_IMAGES normal training images, scored on the validation images.
    """
    from stages.denoise.leakage import positional_leakage

    train = rows_of(manifest, None, "train", label=0)[:LEAKAGE_IMAGES]
    held_out = rows_of(manifest, None, "validation", label=0)[:LEAKAGE_IMAGES]
    found = {
        name: round(positional_leakage(Subset(stored, train), Subset(stored, held_out)).mean, 6)
        for name, stored in (("raw", raw), ("clean", clean))
    }
    print(f"clean_features: positional leakage (R^2): raw {found['raw']:.3f}, clean {found['clean']:.3f}")
    return found
