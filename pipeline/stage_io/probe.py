"""Stage `probe`: what the features tell, and what denoising changed: numbers and pictures.

Measured on images that the denoiser never saw: validation images of DVT step 1, and test images. In keys and files,
step 1 is called `stage_1`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.project import paths
from pipeline.project.params import Params
from pipeline.show.denoising import DenoisingCase, denoising_lines, render_denoising
from pipeline.stage_io.rows import ImageFiles, read_manifest, rows_of
from pipeline.stage_io.saving import output, write_json
from stages.array_store import StoredRows
from stages.score import metrics
from stages.score.intervals import bootstrap, percentile_interval
from stages.score.resamples import group_numbers, groups_of_class
from stages.types import Rows, Subset

MEMORY = 5000
"""Patch features of good training images that nearest neighbours are searched in."""
SHOWN, SHOWN_SIDE = 6, 192
"""Images in the picture, and their side in pixels."""

KINDS = ("raw", "mean_artifact", "stage_1", "denoiser")
"""Features that are compared; `mean_artifact` is raw minus the mean artifact, the simplest denoising."""
Stores = dict[str, Rows]
"""Aligned rows (M, h, w, C): `raw`, `stage_1`, `denoiser`, `artifact`; (M, h, w): `residual`."""


@dataclass(frozen=True)
class OffsetRows:
    """Rows minus an offset."""

    source: Rows
    offset: NDArray[np.float32]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: Any, /) -> NDArray[np.float32]:
        return self.source[key].astype(np.float32) - self.offset


def probe(params: Params) -> None:
    """data/probe/probe.json and denoising.png."""
    manifest, images = read_manifest(), pd.read_parquet(paths.DENOISED / "images.parquet")
    denoised = images[images["row"] >= 0]
    training, validation = (np.flatnonzero(denoised["split"] == split) for split in ("train", "validation"))
    stores, artifact = _stores(manifest, denoised, training)
    summary: dict[str, Any] = {
        "images": {"train": len(training), "validation": len(validation), "left_out": int((images["row"] < 0).sum())},
        "held_out_r2": _mean_r2(denoised["diagnostics"]),
        "positional_leakage": _leakage(stores, training, validation),
        "error_to_stage_1": _errors(stores, validation),
        "nearest_neighbour": {
            category: _nearest(params, manifest, category, artifact) for category in params.data.categories
        },
        "labelled": {category: _labelled(manifest, category) for category in params.data.categories},
    }
    with output(paths.PROBE) as folder:
        write_json(folder / "probe.json", summary)
        chosen = (validation if len(validation) else training)[:SHOWN]
        _draw(folder / "denoising.png", stores, denoised.iloc[chosen], chosen)
    for line in denoising_lines(summary):
        print(f"probe: {line}")


def _stores(
    manifest: pd.DataFrame, images: pd.DataFrame, training: NDArray[np.int64]
) -> tuple[Stores, NDArray[np.float32]]:
    """The stores, and the mean artifact (h, w, C) over the rows `training`: of raw minus step 1, as the denoiser
    starts."""
    row_of = pd.Series(np.arange(len(manifest)), manifest["sha256"]).groupby(level=0).first()
    clean = StoredRows(paths.CLEAN / "tokens.zarr")
    stores: Stores = {
        name: StoredRows(paths.DENOISED / f"{file}.zarr")
        for name, file in (("raw", "raw"), ("stage_1", "clean"), ("artifact", "artifact"), ("residual", "residual"))
    }
    mean = np.mean([stores["raw"][i].astype(np.float32) - stores["stage_1"][i] for i in map(int, training)], axis=0)
    stores["denoiser"] = Subset(clean, row_of[images["sha256"]].to_numpy())
    return stores | {"mean_artifact": OffsetRows(stores["raw"], mean)}, mean


def _mean_r2(diagnostics: pd.Series) -> float | None:
    values = [json.loads(text)["held_out_r2"] for text in diagnostics]
    known = [value for value in values if value is not None]
    return round(float(np.mean(known)), 6) if known else None


def _leakage(stores: Stores, training: NDArray[np.int64], validation: NDArray[np.int64]) -> dict[str, float] | None:
    """R^2 of reading a patch's position from its feature: fitted on training images, scored on validation images."""
    from stages.probe.leakage import positional_leakage

    if not len(training) or not len(validation):
        return None
    return {
        name: round(positional_leakage(Subset(stores[name], training), Subset(stores[name], validation)).mean, 6)
        for name in KINDS
    }


def _errors(stores: Stores, validation: NDArray[np.int64]) -> dict[str, float] | None:
    """Squared distance of the other kinds to the result of step 1, over the variance of that result."""
    if not len(validation):
        return None
    target = stores["stage_1"][validation].astype(np.float64)
    total = float(((target - target.mean((0, 1, 2))) ** 2).sum()) or 1.0
    other_kinds = (name for name in KINDS if name != "stage_1")
    return {name: round(float(((stores[name][validation] - target) ** 2).sum()) / total, 6) for name in other_kinds}


def _nearest(
    params: Params, manifest: pd.DataFrame, category: str, artifact: NDArray[np.float32]
) -> dict[str, Any] | None:
    """Image AUROC of nearest-neighbour scores on each kind of features, and the paired difference clean - raw. None
    without both labels among the test images; no intervals if a label has images of one group only."""
    from stages.probe.neighbours import nearest_scores, sample_memory
    from stages.torch_setup import device_named

    train, test = rows_of(manifest, category, "train", label=0), rows_of(manifest, category, "test")
    labels = manifest["label"].to_numpy()[test].astype(bool)
    groups = group_numbers(manifest["group"].to_numpy()[test].tolist())
    fewest = min(groups_of_class(labels, groups))
    if fewest < 1 or not len(train):
        return None
    result, resampled = {}, {}
    raw, clean = (StoredRows(path / "tokens.zarr") for path in (paths.FEATURES, paths.CLEAN))
    kinds: dict[str, Rows] = {"raw": raw, "mean_artifact": OffsetRows(raw, artifact), "clean": clean}
    for name, tokens in kinds.items():
        memory = sample_memory(Subset(tokens, train), MEMORY, params.seed)
        scores = nearest_scores(memory, Subset(tokens, test), device_named(params.compute.device))
        roc = metrics.curve(scores, labels)
        samples = bootstrap(scores, labels, groups, {"auroc": metrics.auroc}, params.score.resamples, params.seed)
        resampled[name] = samples["auroc"]
        result[name] = (float(metrics.auroc(roc.tp, roc.fp)), resampled[name])
    result["difference"] = (result["clean"][0] - result["raw"][0], resampled["clean"] - resampled["raw"])
    return {
        name: {
            "value": round(value, 6),
            "ci": [round(end, 6) for end in percentile_interval(values, params.score.confidence, fewest)]
            if fewest > 1
            else None,
        }
        for name, (value, values) in result.items()
    }


def _labelled(manifest: pd.DataFrame, category: str) -> dict[str, dict[str, Any]]:
    """Image AUROC of simple classifiers that learn the test images' labels from the mean token. For information
    only."""
    from stages.probe.probes import knn_probe, linear_probe

    test, stored = rows_of(manifest, category, "test"), StoredRows(paths.FEATURES / "tokens.zarr")
    means = np.array([stored[int(i)].astype(np.float32).mean((0, 1)) for i in test])
    labels, groups = manifest["label"].to_numpy()[test], manifest["group"].to_numpy()[test].tolist()
    results = {}
    for name, classifier in (("knn", knn_probe), ("linear", linear_probe)):
        result = classifier(means, labels, groups)
        auroc = None if result.auroc is None else round(result.auroc, 6)
        results[name] = {"image_auroc": auroc, "reason": result.reason}
    return results


def _draw(path: Path, stores: Stores, images: pd.DataFrame, rows: NDArray[np.int64]) -> None:
    from stages.probe.pictures import as_colours, likeness_to_centre

    cases = []
    for row, file in zip(rows, images["path"], strict=True):
        raw, clean, denoiser = (np.asarray(stores[name][int(row)]) for name in ("raw", "stage_1", "denoiser"))
        colours = as_colours(raw, {"stage 1": clean, "denoiser": denoiser}, np.asarray(stores["artifact"][int(row)]))
        cases.append(
            DenoisingCase(
                name=Path(file).name,
                pictures={"image": ImageFiles([paths.RAW / file], SHOWN_SIDE)[0], **colours},
                residual=np.asarray(stores["residual"][int(row)]),
                similarity={"raw": likeness_to_centre(raw), "denoiser": likeness_to_centre(denoiser)},
            )
        )
    render_denoising(cases, "what denoising took off: tokens as colours (one scale a row)", path)
