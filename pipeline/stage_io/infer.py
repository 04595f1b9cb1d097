"""Stage `infer`, one per category and detector."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.project import paths
from pipeline.project.params import Params
from pipeline.stage_io.items.scores import Scoring
from pipeline.stage_io.progress import open_cache, progress_bar, report_counts
from pipeline.stage_io.rows import read_manifest, rows_of
from pipeline.stage_io.samples import samples_of
from pipeline.stage_io.saving import load_fitted, output
from pipeline.stage_io.validation_results import FILE, load_results
from stages.array_store import RowWriter
from stages.detectors.registry import detector as detector_named
from stages.item_cache import Item
from stages.types import UserError

BATCH = 64
"""Images scored at a time: for each batch the detector's networks and Gaussians are made anew."""
COLUMNS = ["path", "sha256", "split", "label", "defect_type", "mask_path"]
"""Of the manifest, that stand beside the scores."""


def infer(params: Params, category: str, name: str) -> None:
    """data/maps/CATEGORY/NAME: maps.zarr, scores.parquet and pictures of the validation and test images.

    The rows of all three are the same images in the same order. Validation images have the results of the model that
    had not learned from them, where the deployed one has (`fit_on: train_and_validation`).

    Raises:
        UserError: the model belongs to other validation images.
    """
    from stages.torch_setup import device_named

    config, manifest, device = params.detector(name), read_manifest(), device_named(params.compute.device)
    work = Scoring(name, detector_named(name), config, *load_fitted(paths.model(category, name)), device)
    rows = rows_of(manifest, category, "validation", "test")
    ids = manifest["sha256"].to_numpy()[rows]
    stored = (manifest["split"].to_numpy()[rows] == "validation") & (config.fit_on == "train_and_validation")
    results = _stored_results(category, name, ids[stored])
    samples = samples_of(manifest, rows[~stored], config, work.detector.needs(config), device)
    cache = open_cache(params.compute)
    keys = work.keys(samples.ids)
    bar, set_done = progress_bar(f"infer {category} {name}", len(keys))
    with bar, output(paths.maps(category, name)) as folder:
        computed = cache.map(keys, lambda missing: work.items(samples, missing), BATCH, set_done)
        items = (results[sha] if kept else next(computed) for sha, kept in zip(ids, stored, strict=True))
        scores = _write_items(folder, items, len(rows))
        table = manifest.iloc[rows][COLUMNS].reset_index(drop=True)
        pd.concat([table, pd.DataFrame(scores)], axis=1).to_parquet(folder / "scores.parquet", index=False)
    report_counts(f"infer-{category}-{name}", cache.counts, cache)


def _stored_results(category: str, name: str, ids: NDArray[np.object_]) -> dict[str, Item]:
    """What training kept of these validation images, by digest."""
    if not len(ids):
        return {}
    folder = paths.model(category, name)
    results = load_results(folder / FILE)
    if missing := sum(sha not in results for sha in ids):
        raise UserError(
            f"{folder} lacks results of {missing} of {len(ids)} validation images: stage train@{category}-{name} is out"
            " of date, `burnish run` brings it up to date"
        )
    return results


def _write_items(folder: Path, items: Iterator[Item], count: int) -> list[dict[str, float]]:
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
