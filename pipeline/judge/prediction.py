"""The decision on one image, with all that is reported about it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from pipeline.judge.images import LoadedImage, describe_differences, displayable_path
from stages.score.calibration import rejected
from stages.types import ScoreMap

DEFECT, GOOD, UNREADABLE = "defect", "good", "unreadable"
"""Verdicts. An image without a score or a threshold has none."""


@dataclass(frozen=True)
class DecisionRule:
    """Which score decides, and how."""

    category: str
    detector: str
    """Whose score decides."""
    threshold: float | None
    """An image is rejected if its score is above."""
    why_no_threshold: str
    """To be reported if `threshold` is None."""
    training_images: Mapping[str, Any]
    """Sizes and modes of the category's training images (`training_images` in bundle.json)."""
    white: int
    """Grey value that counts as white in files of more than 8 bits."""
    map_limits: Sequence[float] | None
    """Values of the anomaly map with the darkest and the brightest colour of overlays."""


@dataclass(frozen=True)
class Prediction:
    """One row of predictions.parquet and predictions.csv."""

    path: str
    sha256: str | None
    width: int | None
    height: int | None
    """In pixels, upright, before resizing."""
    mode: str | None
    category: str
    verdict: str | None
    """DEFECT, GOOD, UNREADABLE, or None if there is a score but no verdict."""
    score: float | None
    """Of the detector that decides. None: unreadable, or not a finite number."""
    threshold: float | None
    detector: str
    scores: Mapping[str, float | None]
    """By detector; each is a column `score_NAME`."""
    note: str
    """Why the image is unreadable or has no verdict, and how it differs from the training images."""
    overlay: str | None = None
    """Path of its overlay, below the output folder."""

    def to_row(self) -> dict[str, Any]:
        """The values by column, in the order of `column_types`."""
        row: dict[str, Any] = {}
        for field in fields(self):
            if field.name == "scores":
                row |= {f"score_{name}": score for name, score in self.scores.items()}
            else:
                row[field.name] = getattr(self, field.name)
        return row


def column_types(detectors: Sequence[str]) -> dict[str, str]:
    """The columns of a table of predictions, with the names of their Arrow types."""
    return {
        "path": "string",
        "sha256": "string",
        "width": "int64",
        "height": "int64",
        "mode": "string",
        "category": "string",
        "verdict": "string",
        "score": "float64",
        "threshold": "float64",
        "detector": "string",
        **{f"score_{name}": "float64" for name in detectors},
        "note": "string",
        "overlay": "string",
    }


def make_prediction(
    image: LoadedImage, maps: Mapping[str, ScoreMap] | None, rule: DecisionRule, detectors: Sequence[str]
) -> Prediction:
    """Decide on an image.

    Args:
        maps: score maps by detector; None: the image is unreadable.
        detectors: whose scores are reported.
    """
    scores: dict[str, float | None] = dict.fromkeys(detectors)
    verdict: str | None = UNREADABLE
    note = image.fault
    if maps is not None:
        scores = {name: _finite_or_none(maps[name].image_score) for name in detectors}
        verdict, reason = _decide(scores[rule.detector], rule)
        note = "; ".join(filter(None, [describe_differences(image, rule.training_images, rule.white), reason]))
    return Prediction(
        path=displayable_path(image.path),
        sha256=image.sha256 or None,
        width=image.width or None,
        height=image.height or None,
        mode=image.mode or None,
        category=rule.category,
        verdict=verdict,
        score=scores[rule.detector],
        threshold=rule.threshold,
        detector=rule.detector,
        scores=scores,
        note=note,
    )


def _decide(score: float | None, rule: DecisionRule) -> tuple[str | None, str | None]:
    """The verdict, or None and the reason why there is none."""
    if score is None:
        return None, "no verdict: the score is not a finite number"
    if rule.threshold is None:
        return None, f"no verdict: {rule.why_no_threshold}"
    return DEFECT if rejected(np.array([score]), rule.threshold)[0] else GOOD, None


def _finite_or_none(score: float) -> float | None:
    return score if math.isfinite(score) else None
