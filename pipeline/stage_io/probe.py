"""Stage `probe`: what the features tell, and what denoising took off them: figures and pictures.

Measured on images that the denoiser never saw: validation images that stage 1 ran on, and test images.
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
from pipeline.show.denoising import Denoised, denoising_lines, draw_denoising
from pipeline.stage_io.rows import ImageFiles, read_manifest, rows_of
from pipeline.stage_io.saving import output, write_json
from stages.array_store import StoredRows
from stages.score import metrics
from stages.score.intervals import bootstrap, percentile_interval
from stages.types import Rows, Subset

MEMORY = 5000
"""Patch features of good training images that the nearest neighbour is sought among."""
SHOWN, SHOWN_SIDE = 6, 192
"""Images in the picture, and their side in pixels."""

KINDS = ("raw", "mean_artifact", "stage_1", "denoiser")
"""Features that are compared; `mean_artifact` is raw less the mean artifact, the least that one can do."""
Stores = dict[str, Rows]
"""Aligned rows (M, h, w, C): `raw`, `stage_1`, `denoiser`, `artifact`; (M, h, w): `residual`."""


@dataclass(frozen=True)
class Less:
    """Rows less a constant."""

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
    whole = images[images["row"] >= 0]
    seen, unseen = (np.flatnonzero(whole["split"] == split) for split in ("train", "validation"))
    stores, artifact = _stores(manifest, whole, seen)
    found: dict[str, Any] = {
        "images": {"train": len(seen), "validation": len(unseen), "left_out": int((images["row"] < 0).sum())},
        "held_out_r2": _mean_r2(whole["diagnostics"]),
        "positional_leakage": _leakage(stores, seen, unseen),
        "error_to_stage_1": _errors(stores, unseen),
        "nearest_neighbour": {
            category: _nearest(params, manifest, category, artifact) for category in params.data.categories
        },
        "labelled": {category: _labelled(manifest, category) for category in params.data.categories},
    }
    with output(paths.PROBE) as folder:
        write_json(folder / "probe.json", found)
        chosen = (unseen if len(unseen) else seen)[:SHOWN]
        _draw(folder / "denoising.png", stores, whole.iloc[chosen], chosen)
    for line in denoising_lines(found):
        print(f"probe: {line}")


def _stores(manifest: pd.DataFrame, whole: pd.DataFrame, seen: NDArray[np.int64]) -> tuple[Stores, NDArray[np.float32]]:
    """The stores, and the mean artifact (h, w, C) of the rows `seen`: of raw less stage 1, as the denoiser starts."""
    place = pd.Series(np.arange(len(manifest)), manifest["sha256"]).groupby(level=0).first()
    clean = StoredRows(paths.CLEAN / "tokens.zarr")
    stores: Stores = {
        name: StoredRows(paths.DENOISED / f"{file}.zarr")
        for name, file in (("raw", "raw"), ("stage_1", "clean"), ("artifact", "artifact"), ("residual", "residual"))
    }
    mean = np.mean([stores["raw"][i].astype(np.float32) - stores["stage_1"][i] for i in map(int, seen)], axis=0)
    stores["denoiser"] = Subset(clean, place[whole["sha256"]].to_numpy())
    return stores | {"mean_artifact": Less(stores["raw"], mean)}, mean


def _mean_r2(diagnostics: pd.Series) -> float | None:
    values = [json.loads(text)["held_out_r2"] for text in diagnostics]
    known = [value for value in values if value is not None]
    return round(float(np.mean(known)), 6) if known else None


def _leakage(stores: Stores, seen: NDArray[np.int64], unseen: NDArray[np.int64]) -> dict[str, float] | None:
    """R^2 of reading a patch's place from its feature: fitted on training images, scored on validation images."""
    from stages.probe.leakage import positional_leakage

    if not len(seen) or not len(unseen):
        return None
    return {
        name: round(positional_leakage(Subset(stores[name], seen), Subset(stores[name], unseen)).mean, 6)
        for name in KINDS
    }


def _errors(stores: Stores, unseen: NDArray[np.int64]) -> dict[str, float] | None:
    """Squared distance to the result of stage 1 over that result's variance: of the other kinds."""
    if not len(unseen):
        return None
    target = stores["stage_1"][unseen].astype(np.float64)
    whole = float(((target - target.mean((0, 1, 2))) ** 2).sum()) or 1.0
    others = (name for name in KINDS if name != "stage_1")
    return {name: round(float(((stores[name][unseen] - target) ** 2).sum()) / whole, 6) for name in others}


def _nearest(
    params: Params, manifest: pd.DataFrame, category: str, artifact: NDArray[np.float32]
) -> dict[str, Any] | None:
    """Image AUROC of nearest-neighbour scores on each kind of features, and the paired difference clean - raw; None
    without both kinds of test images."""
    from stages.probe.neighbours import draw_memory, nearest_scores
    from stages.torch_setup import device_named

    train, test = rows_of(manifest, category, "train", label=0), rows_of(manifest, category, "test")
    labels = manifest["label"].to_numpy()[test].astype(bool)
    if not labels.any() or labels.all() or not len(train):
        return None
    result, resampled = {}, {}
    raw, clean = (StoredRows(path / "tokens.zarr") for path in (paths.FEATURES, paths.CLEAN))
    kinds: dict[str, Rows] = {"raw": raw, "mean_artifact": Less(raw, artifact), "clean": clean}
    for name, tokens in kinds.items():
        memory = draw_memory(Subset(tokens, train), MEMORY, params.seed)
        scores = nearest_scores(memory, Subset(tokens, test), device_named(params.compute.device))
        one = metrics.curve(scores, labels)
        resampled[name] = bootstrap(scores, labels, {"auroc": metrics.auroc}, params.score.resamples, params.seed)[
            "auroc"
        ]
        result[name] = (float(metrics.auroc(one.tp, one.fp)), resampled[name])
    result["difference"] = (result["clean"][0] - result["raw"][0], resampled["clean"] - resampled["raw"])
    return {
        name: {
            "value": round(value, 6),
            "ci": [round(end, 6) for end in percentile_interval(values, params.score.confidence)],
        }
        for name, (value, values) in result.items()
    }


def _labelled(manifest: pd.DataFrame, category: str) -> dict[str, dict[str, Any]]:
    """Image AUROC of plain classifiers that learn the test images' labels from the mean token: for the record alone."""
    from stages.probe.probes import knn_probe, linear_probe

    test, stored = rows_of(manifest, category, "test"), StoredRows(paths.FEATURES / "tokens.zarr")
    means = np.array([stored[int(i)].astype(np.float32).mean((0, 1)) for i in test])
    labels, groups = manifest["label"].to_numpy()[test], manifest["group"].to_numpy()[test].tolist()
    found = {}
    for name, probe in (("knn", knn_probe), ("linear", linear_probe)):
        one = probe(means, labels, groups)
        found[name] = {"image_auroc": None if one.auroc is None else round(one.auroc, 6), "reason": one.reason}
    return found


def _draw(path: Path, stores: Stores, images: pd.DataFrame, rows: NDArray[np.int64]) -> None:
    from stages.probe.pictures import as_colours, likeness_to_centre

    cases = []
    for row, file in zip(rows, images["path"], strict=True):
        raw, clean, denoiser = (np.asarray(stores[name][int(row)]) for name in ("raw", "stage_1", "denoiser"))
        colours = as_colours(raw, {"stage 1": clean, "denoiser": denoiser}, np.asarray(stores["artifact"][int(row)]))
        cases.append(
            Denoised(
                name=Path(file).name,
                pictures={"image": ImageFiles([paths.RAW / file], SHOWN_SIDE)[0], **colours},
                residual=np.asarray(stores["residual"][int(row)]),
                likeness={"raw": likeness_to_centre(raw), "denoiser": likeness_to_centre(denoiser)},
            )
        )
    draw_denoising(cases, "what denoising took off: tokens as colours (one scale a row)", path)
