"""Stages `train` and `infer`, one each a category and detector."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline import paths
from pipeline.params import Params
from pipeline.stage_io.rows import ImageFiles, read_manifest, rows_of
from pipeline.stage_io.saving import load_fitted, output, save_fitted
from pipeline.stage_io.session import bar, digest_of, open_cache, report_counts, training
from stages.array_store import RowWriter, StoredRows
from stages.detectors.interface import DetectorConfig, ImageNetConfig
from stages.detectors.registry import detector as detector_named
from stages.item_cache import Item, code_version, item_key
from stages.types import Extract, Samples, ScoreMap, Subset, UserError

BATCH = 64
"""Images scored at a time: for each batch the detector's networks and Gaussians are made anew."""
HELD_OUT = "held_out.safetensors"
SHARED = (
    "stages.backbone.imagenet",
    "stages.backbone.lite0",
    "stages.detectors.compare",
    "stages.detectors.features",
    "stages.detectors.gaussian",
    "stages.detectors.held_out",
    "stages.detectors.nearest",
    "stages.detectors.similarity",
    "stages.detectors.surroundings",
    "stages.training",
    "stages.types",
)
"""Modules that detectors share: with them what they compute may change."""


def train(params: Params, category: str, name: str) -> None:
    """data/models/detectors/CATEGORY/NAME: model.safetensors, model.json, curves/, and held_out.safetensors, what the
    validation images got, where the model has learnt from them too."""
    from stages.torch_setup import device_named

    detector, config, manifest = detector_named(name), params.detector(name), read_manifest()
    needs, device = detector.needs(config), device_named(params.compute.device)
    parts = [
        samples_of(manifest, rows_of(manifest, category, split, label=0), config, needs, device)
        for split in ("train", "validation")
    ]
    key = digest_of(_inputs(category, name, "train"), config.model_dump(mode="json"), params.seed, _code(name))
    curves = f"train-{category}-{name}"
    with output(paths.model(category, name)) as folder, training(curves, folder / "curves", device, key) as session:
        fitted = detector.fit(parts[0], parts[1], config, params.seed, session)
        save_fitted(folder, fitted)
        if fitted.held_out:
            _save_items(folder / HELD_OUT, parts[1].ids, [_item(one) for one in fitted.held_out])


def infer(params: Params, category: str, name: str) -> None:
    """data/maps/CATEGORY/NAME: maps.zarr, scores.parquet and pictures of the validation and test images.

    Validation images have what they got in training where the model has learnt from them since.

    Raises:
        UserError: it has learnt from other validation images.
    """
    from stages.torch_setup import device_named

    detector, config, manifest = detector_named(name), params.detector(name), read_manifest()
    fitted, digest = load_fitted(paths.model(category, name))
    needs, device = detector.needs(config), device_named(params.compute.device)
    rows = rows_of(manifest, category, "validation", "test")
    ids = manifest["sha256"].to_numpy()[rows]
    known = (manifest["split"].to_numpy()[rows] == "validation") & (config.fit_on == "train_and_validation")
    held_out = _load_items(paths.model(category, name) / HELD_OUT) if known.any() else {}
    if missing := [one for one in ids[known] if one not in held_out]:
        raise UserError(
            f"{paths.model(category, name)} does not know {len(missing)} of {known.sum()} validation images: stage"
            f" train@{category}-{name} is out of date, `burnish run` brings it up to date"
        )
    samples = samples_of(manifest, rows[~known], config, needs, device)
    cache = open_cache(params.compute)
    parameters = {"detector": name, "config": config.model_dump(mode="json"), "upstream": upstream(needs)}
    code = _code(name)
    keys = [item_key(image=sha, weights=digest, parameters=parameters, code=code) for sha in samples.ids]

    def compute(missing: Sequence[int]) -> Iterator[Item]:
        for scored in detector.score(fitted, samples.take(missing), config, device):
            yield _item(scored)

    shown, at = bar(f"infer {category} {name}", len(keys))
    with shown, output(paths.maps(category, name)) as folder:
        computed = cache.map(keys, compute, BATCH, at)
        items = (held_out[one] if kept else next(computed) for one, kept in zip(ids, known, strict=True))
        scores = _write_items(folder, items, len(rows))
        table = manifest.iloc[rows][["path", "sha256", "split", "label", "defect_type", "mask_path"]].reset_index(
            drop=True
        )
        pd.concat([table, pd.DataFrame(scores)], axis=1).to_parquet(folder / "scores.parquet", index=False)
    report_counts(f"infer-{category}-{name}", cache.counts, cache)


def _item(scored: ScoreMap) -> Item:
    """What is kept of an image."""
    return {
        "maps": np.asarray(scored.anomaly_map, np.float32),
        "image_score": np.asarray(scored.image_score, np.float64),
        **{f"extra_{key}": np.asarray(value, np.float64) for key, value in scored.extras.items()},
        **{f"picture_{key}": np.asarray(value) for key, value in scored.pictures.items()},
    }


def _save_items(path: Path, ids: Sequence[str], items: Sequence[Item]) -> None:
    """One file of images' items, stacked, and of their digests."""
    from safetensors.numpy import save_file

    digests = np.array([list(bytes.fromhex(one)) for one in ids], np.uint8)  # (N, 32)
    stacked = {name: np.stack([item[name] for item in items]) for name in items[0]}
    # what is stacked may lie in another order in memory, which safetensors would write as it lies
    save_file({name: np.ascontiguousarray(values) for name, values in {"sha256": digests, **stacked}.items()}, path)


def _load_items(path: Path) -> dict[str, Item]:
    """What `_save_items` wrote, by digest; nothing where it wrote nothing."""
    from safetensors.numpy import load_file

    if not path.exists():
        return {}
    stacked = load_file(path)
    digests = stacked.pop("sha256")
    return {bytes(one).hex(): {name: of[i] for name, of in stacked.items()} for i, one in enumerate(digests)}


def _write_items(folder: Any, items: Iterator[Item], count: int) -> list[dict[str, float]]:
    """Maps and pictures to Zarr stores, row by row; the scalar scores come back."""
    scores: list[dict[str, float]] = []
    with ExitStack() as stack:
        writers: dict[str, RowWriter] = {}
        for item in items:
            scores.append({name: float(value) for name, value in sorted(item.items()) if value.ndim == 0})
            for name, value in item.items():
                if value.ndim == 0:
                    continue
                if name not in writers:
                    writers[name] = stack.enter_context(RowWriter(folder / f"{name}.zarr", count))
                writers[name].append(value)
    return scores


def samples_of(
    manifest: pd.DataFrame, rows: NDArray[np.int64], config: DetectorConfig, needs: frozenset[str], device: str
) -> Samples:
    def stored(path: Any) -> Subset:
        return Subset(StoredRows(path), rows)

    attention = paths.FEATURES / "attention.zarr"
    return Samples(
        ids=manifest["sha256"].to_numpy()[rows].tolist(),
        images=ImageFiles.of(manifest, rows, config.input_side),
        raw=stored(paths.FEATURES / "tokens.zarr") if "raw" in needs else None,
        clean=stored(paths.CLEAN / "tokens.zarr") if "clean" in needs else None,
        attention=stored(attention) if "attention" in needs and attention.exists() else None,
        imagenet=imagenet_of(config, needs, device),
    )


def imagenet_of(config: DetectorConfig, needs: frozenset[str], device: str, most: int | None = None) -> Extract | None:
    """The ImageNet CNN that the detector asks for; at most so many images go through a GPU together."""
    if "imagenet" not in needs or not isinstance(config, ImageNetConfig):
        return None
    from stages.backbone.imagenet import GPU_BATCH, extractor

    return extractor(config.network, config.patch, device, min(most or GPU_BATCH, GPU_BATCH))


def upstream(needs: frozenset[str]) -> list[str]:
    """Digests of what made the features that the detector reads."""
    read = []
    if needs & {"raw", "clean", "attention"}:
        read.append(load_fitted(paths.BACKBONE)[1])
    if "clean" in needs:
        read.append(load_fitted(paths.DENOISER)[1])
    return read


def _inputs(category: str, name: str, stage: str) -> Any:
    """What stage `inputs` found that this stage reads."""
    return json.loads((paths.INPUTS / category / name / f"{stage}.json").read_text())


def _code(name: str) -> str:
    return code_version(f"stages.detectors.{name}", *SHARED)
