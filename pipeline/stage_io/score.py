"""Stage `score`: metrics, thresholds, decisions and plots for every category and detector."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.project import paths
from pipeline.project.params import Params
from pipeline.show import curves
from pipeline.stage_io.saving import output, write_json
from stages.array_store import StoredRows
from stages.detectors.registry import BASELINES
from stages.fusion.members import FUSION, members, scored
from stages.images import decode_mask
from stages.score.calibration import rejected
from stages.score.evaluate import evaluate
from stages.score.intervals import bootstrap, percentile_interval
from stages.score.metrics import auroc, curve
from stages.score.pixels import mask_coverage
from stages.score.resamples import group_numbers, groups_of_class


def score(params: Params) -> None:
    """data/metrics/{metrics,details}.json, data/predictions/CATEGORY-DETECTOR.parquet, data/plots/."""
    metrics: dict[str, Any] = {}
    names = scored(params.fused.detectors, params.detectors)
    details: dict[str, Any] = {"backbone": _fit_metrics(paths.BACKBONE), "denoiser": _fit_metrics(paths.DENOISER)}
    details["denoising"] = json.loads((paths.PROBE / "probe.json").read_text())
    details["audit"] = json.loads((paths.AUDIT / "audit.json").read_text())
    with output(paths.PREDICTIONS) as predictions, output(paths.PLOTS) as pictures:
        for category in params.data.categories:
            tables = {name: pd.read_parquet(paths.maps(category, name) / "scores.parquet") for name in names}
            metrics[category], details[category] = {}, {}
            for name, table in tables.items():
                values = _evaluate(params, category, name, table) | _near_duplicate_note(details["audit"][category])
                metrics[category][name] = values
                fitted = _fit_metrics(paths.model(category, name))
                measured = _other_scores(table) | _coverage(params, category, name, table)
                measured |= _leave_one_out(params, name, table)
                details[category][name] = fitted | measured
                decisions = _decide(category, name, table, values["threshold"])
                decisions.to_parquet(predictions / f"{category}-{name}.parquet", index=False)
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
        groups=chosen["group"].tolist(),
    )


def _near_duplicate_note(audit: dict[str, Any]) -> dict[str, Any]:
    """Near-duplicate share of the category's test images, and a warning if it is too high."""
    share, limit = audit["share_with_a_near_duplicate"]["test"], audit["max_leak_fraction"]
    if not audit["leaks"]:
        return {"leak_fraction": share, "leak_note": None}
    note = (
        f"{share:.1%} of the good test images have a near-duplicate among the images that detectors learn from (limit: "
        f"data.max_leak_fraction = {limit:.1%}), so the scores are too optimistic. Set data.group_pattern to keep "
        f"related images together; see {paths.AUDIT}"
    )
    return {"leak_fraction": share, "leak_note": note}


def _masks(table: pd.DataFrame) -> Iterator[NDArray[np.bool_] | None]:
    for path in table["mask_path"]:
        yield decode_mask((paths.RAW / path).read_bytes()) if path else None


def _other_scores(table: pd.DataFrame) -> dict[str, Any]:
    """Image AUROC of the other image scores that a detector reports; empty if one label is missing."""
    test = table[table["split"] == "test"]
    names = [name for name in table.columns if name.startswith("extra_")]
    if test["label"].nunique() < 2 or not names:
        return {}
    curves_of = {name: curve(test[name].to_numpy(), test["label"].to_numpy().astype(bool)) for name in names}
    return {
        "image_auroc_of": {
            name.removeprefix("extra_"): round(float(auroc(roc.tp, roc.fp)), 6) for name, roc in curves_of.items()
        }
    }


def _leave_one_out(params: Params, name: str, table: pd.DataFrame) -> dict[str, Any]:
    """What each member adds to the fusion: image AUROC of all members minus that without the member, paired on test
    images."""
    test = table[table["split"] == "test"]
    labels, groups = test["label"].to_numpy().astype(bool), group_numbers(test["group"].tolist())
    fewest = min(groups_of_class(labels, groups))
    if name != FUSION or fewest < 2:
        return {}

    def resampled(column: str) -> NDArray[np.float64]:
        scores = test[column].to_numpy()
        roc = curve(scores, labels)
        samples = bootstrap(scores, labels, groups, {"auroc": auroc}, params.score.resamples, params.seed)["auroc"]
        return np.concatenate([[float(auroc(roc.tp, roc.fp))], samples])

    all_members = resampled("image_score")
    added = {
        member: all_members - resampled(f"extra_without_{member}")
        for member in members(params.fused.detectors, params.detectors)
    }
    return {
        "added_by": {
            member: {
                "image_auroc": round(float(values[0]), 6),
                "ci": [round(end, 6) for end in percentile_interval(values[1:], params.score.confidence, fewest)],
            }
            for member, values in added.items()
        }
    }


def _coverage(params: Params, category: str, name: str, table: pd.DataFrame) -> dict[str, Any]:
    """Share of all true defect pixels under each kind of mask that the detector computed, at equal mask area."""
    mask_stores = [path for path in _pictures(paths.maps(category, name)) if path.name.startswith("picture_mask_")]
    if not mask_stores:
        return {}
    area = params.detector(name).model_dump()["mask_fraction"]
    with_mask = np.flatnonzero(((table["split"] == "test") & (table["mask_path"] != "")).to_numpy())
    if not len(with_mask):
        return {"mask_coverage": None, "mask_coverage_reason": "no defect has a mask that can be used"}
    result: dict[str, float | None] = {}
    for path in mask_stores:
        masks = StoredRows(path)
        truth = [mask for mask in _masks(table.iloc[with_mask]) if mask is not None]
        kind = path.name.removeprefix("picture_mask_").removesuffix(".zarr")
        result[kind] = mask_coverage((masks[int(i)] for i in with_mask), truth, area)
    return {"mask_coverage": result}


def _decide(category: str, name: str, table: pd.DataFrame, threshold: float | None) -> pd.DataFrame:
    """Scores with the deployed threshold and the decision: 1 rejected, 0 passed, missing without a threshold."""
    decided = table.assign(category=category, detector=name, threshold=threshold)
    decision = None if threshold is None else rejected(table["image_score"].to_numpy(), threshold).astype(np.int64)
    return decided.assign(decision=pd.array(decision if decision is not None else [None] * len(table), dtype="Int64"))


def _fit_metrics(folder: Path) -> dict[str, Any]:
    """Metrics of the fit, without the curves, which are saved beside the model."""
    metrics = json.loads((folder / "model.json").read_text())["metrics"]
    return {name: value for name, value in metrics.items() if not isinstance(value, list) or not _is_curve(value)}


def _is_curve(values: list[Any]) -> bool:
    return any(isinstance(value, dict) for value in values)


def _plots(folder: Path, category: str, tables: dict[str, pd.DataFrame], metrics: dict[str, Any]) -> None:
    """The ROC picture of the category, one histogram picture per detector, and the same as data for DVC plots."""
    lines: list[curves.RocCurve] = []
    for kind in ("roc", "scores"):
        (folder / kind).mkdir(exist_ok=True)
    for name, table in tables.items():
        test, values = table[table["split"] == "test"], metrics[name]
        scores, labels = test["image_score"].to_numpy(), test["label"].to_numpy()
        title = f"{category}, {name}: image scores of the test images"
        curves.render_score_histogram(
            scores, labels, values["threshold"], title, folder / f"{category}-{name}-scores.png"
        )
        curves.write_rows(curves.histogram_rows(scores, labels), folder / "scores" / f"{category}-{name}.json")
        points = curves.roc_rows(scores, labels)
        curves.write_rows(points, folder / "roc" / f"{category}-{name}.json")
        if points:
            lines.append(
                curves.RocCurve(name, points, values["image_auroc"], values["image_auroc_ci"], name in BASELINES)
            )
    curves.render_roc(lines, f"{category}: ROC on the test images", folder / f"{category}-roc.png")


def _pictures(folder: Path) -> list[Path]:
    return sorted(folder.glob("picture_*.zarr"))
