"""Stage `infer`: once per category and detector."""

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
from pipeline.stage_io.validation_results import RESULTS_FILE, load_results
from stages.array_store import RowWriter
from stages.detectors.registry import detector as detector_named
from stages.item_cache import Item
from stages.types import UserError

BATCH = 64
"""Images scored at a time; for each batch the detector's networks and Gaussians are loaded again."""
COLUMNS = ["path", "sha256", "split", "label", "defect_type", "mask_path", "group"]
"""Columns of the manifest that are saved beside the scores."""


def infer(params: Params, category: str, name: str) -> None:
    """data/maps/CATEGORY/NAME: maps.zarr, scores.parquet and pictures of the validation and test images.

    Row i is the same image in all files. If the deployed model is also fitted on validation images (`fit_on:
    train_and_validation`), these images have the results of the training-only model.

    Raises:
        UserError: the model belongs to other validation images.
    """
    from stages.torch_setup import device_named

    config, manifest, device = params.detector(name), read_manifest(), device_named(params.compute.device)
    work = Scoring(name, detector_named(name), config, *load_fitted(paths.model(category, name)), device)
    rows = rows_of(manifest, category, "validation", "test")
    ids = manifest["sha256"].to_numpy()[rows]
    has_stored_result = (manifest["split"].to_numpy()[rows] == "validation") & (config.fit_on == "train_and_validation")
    results = _stored_results(category, name, ids[has_stored_result])
    samples = samples_of(manifest, rows[~has_stored_result], config, work.detector.needs(config), device)
    cache = open_cache(params.compute)
    keys = work.keys(samples.ids)
    bar, set_done = progress_bar(f"infer {category} {name}", len(keys))
    with bar, output(paths.maps(category, name)) as folder:
        computed = cache.map(keys, lambda missing: work.items(samples, missing), BATCH, set_done)
        sources = zip(ids, has_stored_result, strict=True)
        items = (results[digest] if is_stored else next(computed) for digest, is_stored in sources)
        scores = _write_items(folder, items, len(rows))
        table = manifest.iloc[rows][COLUMNS].reset_index(drop=True)
        pd.concat([table, pd.DataFrame(scores)], axis=1).to_parquet(folder / "scores.parquet", index=False)
    report_counts(f"infer-{category}-{name}", cache.counts, cache)


def _stored_results(category: str, name: str, ids: NDArray[np.object_]) -> dict[str, Item]:
    """Results of the training-only model for these validation images, by digest."""
    if not len(ids):
        return {}
    folder = paths.model(category, name)
    results = load_results(folder / RESULTS_FILE)
    if missing := sum(digest not in results for digest in ids):
        raise UserError(
            f"{folder} lacks results of {missing} of {len(ids)} validation images, so stage train@{category}-{name} is "
            "out of date; `burnish run` brings it up to date"
        )
    return results


def _write_items(folder: Path, items: Iterator[Item], count: int) -> list[dict[str, float]]:
    """Write maps and pictures to Zarr stores, row by row; returns the scalar scores."""
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
