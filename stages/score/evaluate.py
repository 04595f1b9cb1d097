"""The metrics of one detector on one category, from scores, maps and masks to the values of `metrics.json`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.score import metrics
from stages.score.calibration import deployed_threshold, rejected
from stages.score.config import ScoreConfig
from stages.score.intervals import bootstrap, percentile_interval, rate_interval
from stages.score.pixels import PixelCounts
from stages.score.resamples import few_groups_note, group_numbers, groups_of_class
from stages.types import UserError

Maps = Iterable[NDArray[np.floating]]
Masks = Iterable[NDArray[np.bool_] | None]


def evaluate(
    scores: Sequence[float] | NDArray[np.floating],
    labels: Sequence[int] | NDArray[Any],
    defect_types: Sequence[str | None],
    validation_scores: Sequence[float] | NDArray[np.floating],
    config: ScoreConfig,
    seed: int,
    maps: Maps | None = None,
    masks: Masks | None = None,
    groups: Sequence[str] | NDArray[Any] | None = None,
) -> dict[str, Any]:
    """Compute all metrics of a detector, as JSON values. The docstring of `stages.score` lists the keys.

    Args:
        scores: N image scores of the test split, higher = more anomalous.
        labels: N labels, 1 = defect, 0 = good.
        defect_types: N names; None or "" for a defect of unnamed type and for good images.
        validation_scores: scores of good validation images by a model that was not fitted on them. Only they set the
            threshold.
        maps, masks: N anomaly maps (H', W') and N masks (H, W), read once, one at a time. If the mask is None or has no
            defective pixel, a good image is good everywhere, and a defect is left out of the pixel metrics.
        groups: N names; related images have the same. None: the images are unrelated. Intervals resample groups.

    Raises:
        UserError: a score or a map contains NaN or infinity.
    """
    test = _finite(scores, "the test image at position")
    validation = _finite(validation_scores, "the validation image at position")
    truth = np.asarray(labels).astype(bool)
    group = group_numbers(np.arange(len(truth)) if groups is None else groups)
    groups_normal, groups_defect = groups_of_class(truth, group)
    reasons: dict[str, str] = {}
    result: dict[str, Any] = {
        **_image_metrics(test, truth, group, config, seed, reasons),
        **_deployment(test, truth, group, validation, config, reasons),
        **_pixel_metrics(truth, maps, masks, config, reasons),
        "n_test_normal": int((~truth).sum()),
        "n_test_defect": int(truth.sum()),
        "n_groups_normal": groups_normal,
        "n_groups_defect": groups_defect,
        "groups_note": few_groups_note(truth, group),
        "n_validation": len(validation),
    }
    result["per_type"] = _per_type(test, truth, group, defect_types, result["threshold"], config, seed)
    exact = {key: result[key] for key in ("threshold", "f1_max_threshold")}
    return {**_rounded(result), **exact, "reasons": reasons}


def _image_metrics(
    scores: NDArray[np.float64],
    truth: NDArray[np.bool_],
    groups: NDArray[np.int64],
    config: ScoreConfig,
    seed: int,
    reasons: dict[str, str],
) -> dict[str, Any]:
    """The metrics that need no threshold: areas with their intervals, best F1, FPR at 95 % TPR."""
    names = ["image_auroc", "image_aupr", "f1_max", "f1_max_threshold", "fpr_at_95tpr"]
    intervals = ["image_auroc_ci", "image_aupr_ci"]
    result: dict[str, Any] = dict.fromkeys([*names, *intervals])
    if reason := _one_class(truth):
        reasons.update(dict.fromkeys([*names, *intervals], reason))
        return result
    curve = metrics.curve(scores, truth)
    f1 = metrics.f1(curve.tp, curve.fp)
    best = int(np.argmax(f1))
    result |= {
        "image_auroc": float(metrics.auroc(curve.tp, curve.fp)),
        "image_aupr": float(metrics.average_precision(curve.tp, curve.fp)),
        "f1_max": float(f1[best]),
        "f1_max_threshold": float(curve.thresholds[best]),
        "fpr_at_95tpr": float(metrics.fpr_at_tpr(curve.tp, curve.fp, 0.95)),
    }
    fewest = min(groups_of_class(truth, groups))
    if fewest < 2:  # all resamples of a single group are equal, and the interval would look exact
        reason = "an interval needs two groups (without groups: two images) of each class"
        reasons.update(dict.fromkeys(intervals, reason))
        return result
    statistics = {"image_auroc_ci": metrics.auroc, "image_aupr_ci": metrics.average_precision}
    samples = bootstrap(scores, truth, groups, statistics, config.resamples, seed)
    return result | {name: percentile_interval(values, config.confidence, fewest) for name, values in samples.items()}


def _deployment(
    scores: NDArray[np.float64],
    truth: NDArray[np.bool_],
    groups: NDArray[np.int64],
    validation: NDArray[np.float64],
    config: ScoreConfig,
    reasons: dict[str, str],
) -> dict[str, Any]:
    """The threshold that is used on the line, and its escape and overkill."""
    threshold = deployed_threshold(validation, config.target_overkill, config.guarantee, config.confidence)
    result: dict[str, Any] = {
        "threshold": threshold.value,
        "threshold_note": threshold.note,
        "overkill_bound": threshold.overkill_bound,
        "overkill_risk": threshold.overkill_risk,
    }
    for name, images, wrong_decision, reason in (
        ("escape_rate", truth, False, "no defect images in the test split"),
        ("overkill_rate", ~truth, True, "no normal images in the test split"),
    ):
        result |= {name: None, f"{name}_ci": None}
        if threshold.value is None:
            reason = str(threshold.note)
            reasons.update(dict.fromkeys(["threshold", "overkill_bound", "overkill_risk"], reason))
        elif images.any():
            errors = rejected(scores[images], threshold.value) == wrong_decision
            interval = rate_interval(errors, groups[images], config.confidence)
            result |= {name: float(errors.mean()), f"{name}_ci": interval}
            continue
        reasons[name] = reasons[f"{name}_ci"] = reason
    return result


def _pixel_metrics(
    truth: NDArray[np.bool_], maps: Maps | None, masks: Masks | None, config: ScoreConfig, reasons: dict[str, str]
) -> dict[str, Any]:
    counts = PixelCounts.empty(config.pixel_side)
    if maps is not None and masks is not None:
        for position, (defect, anomaly_map, mask) in enumerate(zip(truth, maps, masks, strict=True)):
            if defect and (mask is None or not mask.any()):
                continue
            if not np.isfinite(anomaly_map).all():
                raise UserError(
                    f"the anomaly map of the test image at position {position} contains NaN or infinity; "
                    "lower the detector's learning rate, or check its inputs"
                )
            counts.add(anomaly_map, mask if defect else None)
    result = {"pixel_auroc": counts.auroc(), "aupro": counts.aupro(config.aupro_max_fpr)}
    for name, value in result.items():
        if value is None:
            reasons[name] = "no defect has a mask that can be used" if not counts.masks else "no pixel without defect"
    return {**result, "n_masks": counts.masks}


def _per_type(
    scores: NDArray[np.float64],
    truth: NDArray[np.bool_],
    groups: NDArray[np.int64],
    defect_types: Sequence[str | None],
    threshold: float | None,
    config: ScoreConfig,
    seed: int,
) -> dict[str, Any]:
    """By name of a defect type: its metrics against all good images. Defects without a type are `unnamed`."""
    names = np.array([name or "unnamed" for name in defect_types], dtype=object)
    result: dict[str, Any] = {}
    for name in sorted(set(names[truth])):
        images = ~truth | (names == name)
        reasons: dict[str, str] = {}
        values = _image_metrics(scores[images], truth[images], groups[images], config, seed, reasons)
        defects = scores[truth & (names == name)]
        escape_rate = None if threshold is None else float((~rejected(defects, threshold)).mean())
        if escape_rate is None:
            reasons["escape_rate"] = "no threshold"
        keys = ("image_auroc", "image_auroc_ci", "image_aupr")
        result[name] = {
            **{key: values[key] for key in keys},
            "escape_rate": escape_rate,
            "n": len(defects),
            "reasons": {key: text for key, text in reasons.items() if key in (*keys, "escape_rate")},
        }
    return result


def _one_class(truth: NDArray[np.bool_]) -> str | None:
    """Why nothing can be computed: all images are of one class. None if both classes are present."""
    if not truth.any():
        return "no defect images in the test split"
    return "no normal images in the test split" if truth.all() else None


def _finite(values: Sequence[float] | NDArray[np.floating], what: str) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64).reshape(-1)
    wrong = np.flatnonzero(~np.isfinite(array))
    if len(wrong):
        raise UserError(
            f"the score of {what} {wrong[0]} is {array[wrong[0]]}, not a finite number; "
            "lower the detector's learning rate, or check its inputs"
        )
    return array


def _rounded(value: Any) -> Any:
    """Round floats at any depth to 6 digits, enough for a file in git. The caller keeps thresholds exact."""
    if isinstance(value, Mapping):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return round(value, 6) if isinstance(value, float) else value
