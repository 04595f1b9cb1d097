"""Stage `fuse`: the mean of the chosen detectors after rank normalization, saved like a detector's maps and model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.project import paths
from pipeline.project.params import Params
from pipeline.stage_io.saving import output, save_fitted, write_json
from stages.array_store import RowWriter, StoredRows
from stages.fusion.config import FusedConfig
from stages.fusion.fusion import fit, fuse, held_out_quantiles, mean_scores
from stages.fusion.members import members
from stages.types import ScoreMap


def fuse_detectors(params: Params) -> None:
    """data/fused/fused.json, and data/fused/CATEGORY: model and maps of `fused`, if at least two members run."""
    with output(paths.FUSED) as folder:
        names = members(params.fused.detectors, params.detectors)
        write_json(folder / "fused.json", {"detectors": list(names)})
        if names:
            for category in params.data.categories:
                _fuse(category, names, params.fused, folder / category)


def _fuse(category: str, names: Sequence[str], config: FusedConfig, folder: Path) -> None:
    tables = {name: pd.read_parquet(paths.maps(category, name) / "scores.parquet") for name in names}
    maps = {name: StoredRows(paths.maps(category, name) / "maps.zarr") for name in names}
    table = tables[names[0]]
    validation_rows = np.flatnonzero((table["split"] == "validation").to_numpy())
    fitted = fit(
        {name: tables[name]["image_score"].to_numpy()[validation_rows] for name in names},
        {name: _planes(maps[name], validation_rows) for name in names},
        config.map_pixels,
    )
    save_fitted(folder, fitted)
    held_out = {name: held_out_quantiles(tables[name]["image_score"].to_numpy()[validation_rows]) for name in names}
    position = {int(row): i for i, row in enumerate(validation_rows)}
    scores = []
    with RowWriter(folder / "maps.zarr", len(table)) as writer:
        for i in range(len(table)):
            outputs = {n: ScoreMap(maps[n][i], float(tables[n]["image_score"].iloc[i])) for n in names}
            fused = fuse(fitted, outputs)
            writer.append(fused.anomaly_map)
            score, extras = fused.image_score, fused.extras
            # A score that sets the threshold is ranked among the other scores that do.
            if i in position:
                score, extras = mean_scores({name: float(held_out[name][position[i]]) for name in names})
            scores.append({**{f"extra_{key}": value for key, value in extras.items()}, "image_score": score})
    images = table[["path", "sha256", "split", "label", "defect_type", "mask_path", "group"]]
    pd.concat([images, pd.DataFrame(scores)], axis=1).to_parquet(folder / "scores.parquet", index=False)


def _planes(maps: StoredRows, rows: NDArray[np.int64]) -> Iterator[NDArray[np.float32]]:
    """Maps one by one. This is a function because a generator inside the comprehension above would read the last
    detector's maps for each detector."""
    for row in rows:
        yield maps[int(row)]
