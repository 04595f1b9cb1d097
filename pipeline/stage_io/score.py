"""Stage `score`: metrics, thresholds, decisions and plots of every category and detector."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline import paths, plots
from pipeline.params import Params
from pipeline.stage_io.common import ImageFiles, output, write_json
from stages.array_store import StoredRows
from stages.detectors.registry import FLOORS
from stages.download.images import decode_mask
from stages.score.calibration import rejected
from stages.score.evaluate import evaluate


def score(params: Params) -> None:
    """data/metrics/{metrics,details}.json, data/predictions/CATEGORY-DETECTOR.parquet, data/plots/."""
    metrics: dict[str, Any] = {}
    details: dict[str, Any] = {"backbone": _fit_metrics(paths.BACKBONE), "denoiser": _fit_metrics(paths.DENOISER)}
    with output(paths.PREDICTIONS) as predictions, output(paths.PLOTS) as pictures:
        for category in params.data.categories:
            tables = {name: pd.read_parquet(paths.maps(category, name) / "scores.parquet") for name in params.detectors}
            metrics[category], details[category] = {}, {}
            for name, table in tables.items():
                values = _evaluate(params, category, name, table)
                metrics[category][name] = values
                details[category][name] = _fit_metrics(paths.model(category, name))
                decided = _decide(category, name, table, values["threshold"])
                decided.to_parquet(predictions / f"{category}-{name}.parquet", index=False)
                _gallery(pictures / f"{category}-{name}-cases.png", category, name, table)
                print(f"score: {category} {name}: image AUROC {values['image_auroc']}", flush=True)
            _plots(pictures, category, tables, metrics[category])
    write_json(paths.METRICS, metrics)
    write_json(paths.DETAILS, details)


def _evaluate(params: Params, category: str, name: str, table: pd.DataFrame) -> dict[str, Any]:
    test = np.flatnonzero((table["split"] == "test").to_numpy())
    validation = table.loc[table["split"] == "validation", "image_score"].to_numpy()
    chosen = table.iloc[test]
    maps = StoredRows(paths.maps(category, name) / "maps.zarr")
    return evaluate(
        scores=chosen["image_score"].to_numpy(),
        labels=chosen["label"].to_numpy(),
        defect_types=chosen["defect_type"].tolist(),
        validation_scores=validation,
        config=params.score,
        seed=params.seed,
        maps=(maps[int(i)] for i in test) if (chosen["mask_path"] != "").any() else None,
        masks=_masks(chosen),
    )


def _masks(table: pd.DataFrame) -> Iterator[NDArray[np.bool_] | None]:
    for path in table["mask_path"]:
        yield decode_mask((paths.RAW / path).read_bytes()) if path else None


def _decide(category: str, name: str, table: pd.DataFrame, threshold: float | None) -> pd.DataFrame:
    """Scores with the deployed threshold and the decision: 1 rejected, 0 passed, missing without a threshold."""
    decided = table.assign(category=category, detector=name, threshold=threshold)
    decision = None if threshold is None else rejected(table["image_score"].to_numpy(), threshold).astype(np.int64)
    return decided.assign(decision=pd.array(decision if decision is not None else [None] * len(table), dtype="Int64"))


def _fit_metrics(folder: Path) -> Any:
    return json.loads((folder / "model.json").read_text())["metrics"]
