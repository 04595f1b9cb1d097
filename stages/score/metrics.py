"""Image metrics as functions of cumulated counts. The same functions compute one set of images and its resamples.

Legend: U distinct scores, highest first; `tp` and `fp` (..., U) count the defects and the good images whose score is
at least the u-th; the last column counts all images of the class. Leading axes are resamples. Tied images share a
column, so that every metric is exact with ties: AUROC counts a tie as half, the other metrics add a tied group at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """Counts above each threshold."""

    thresholds: NDArray[np.float64]
    """(U,) distinct scores, highest first."""
    tp: Counts
    """(..., U) defects at or above the threshold."""
    fp: Counts
    """(..., U) good images at or above the threshold."""


def curve(scores: NDArray[np.float64], labels: NDArray[np.bool_]) -> Curve:
    """The curve of N finite scores with their labels (True = defect)."""
    thresholds, column = np.unique(-scores, return_inverse=True)
    both = [np.bincount(column[labels == kind], minlength=len(thresholds)) for kind in (True, False)]
    tp, fp = (np.cumsum(counts, dtype=np.float64) for counts in both)
    return Curve(-thresholds, tp, fp)


def auroc(tp: Counts, fp: Counts) -> NDArray[np.float64]:
    """Area under the ROC curve by trapezoids (...): the chance that a defect scores above a good image, ties half."""
    good = np.diff(fp, axis=-1, prepend=0.0)
    below = np.concatenate([np.zeros_like(tp[..., :1]), tp[..., :-1]], axis=-1)
    return (good * (tp + below)).sum(axis=-1) / (2 * tp[..., -1] * fp[..., -1])


def average_precision(tp: Counts, fp: Counts) -> NDArray[np.float64]:
    """AUPR as average precision (...): sum over thresholds of (recall step) * precision, without interpolation."""
    steps = np.diff(tp, axis=-1, prepend=0.0)
    precision = tp / np.maximum(tp + fp, 1.0)  # 0 / 0 only where a resample has no image yet, with a step of 0
    return (steps * precision).sum(axis=-1) / tp[..., -1]


def f1(tp: Counts, fp: Counts) -> NDArray[np.float64]:
    """F1 (..., U) if all images with scores of at least the threshold are rejected: 2 tp / (2 tp + fp + fn)."""
    return 2 * tp / (tp + fp + tp[..., -1:])


def fpr_at_tpr(tp: Counts, fp: Counts, tpr: float) -> NDArray[np.float64]:
    """Lowest false-positive rate (...) of a threshold that finds at least the share `tpr` of the defects."""
    # Counts are whole numbers: the comparison with the smallest sufficient count is free of rounding.
    sufficient = np.ceil(tpr * tp[..., -1:] - 1e-9)
    first = np.argmax(tp >= sufficient, axis=-1)[..., None]
    return np.take_along_axis(fp, first, axis=-1)[..., 0] / fp[..., -1]


def roc_points(curve: Curve, limit: int = 200) -> list[dict[str, float | None]]:
    """The ROC curve as rows {fpr, tpr, threshold}, from (0, 0) to (1, 1), at most `limit` (>= 2) rows.

    The rows are corners of the curve; if there are more than `limit`, the corners nearest to equal steps along the
    curve. The threshold of the first row is None: no image is rejected. Both classes must be present.
    """
    fpr = np.concatenate([[0.0], curve.fp / curve.fp[-1]])
    tpr = np.concatenate([[0.0], curve.tp / curve.tp[-1]])
    keep = np.ones(len(fpr), dtype=bool)
    # cross product of the steps into and out of a point: 0 on a straight stretch
    dx, dy = np.diff(curve.fp, prepend=0.0), np.diff(curve.tp, prepend=0.0)
    keep[1:-1] = dx[:-1] * dy[1:] != dx[1:] * dy[:-1]
    corners = np.flatnonzero(keep)
    if len(corners) > limit:
        length = (fpr + tpr)[corners]  # length of the staircase up to each corner, strictly increasing
        spaced = np.linspace(length[0], length[-1], limit)
        corners = corners[np.unique(np.abs(length[None] - spaced[:, None]).argmin(axis=1))]
    return [
        {
            "fpr": round(float(fpr[i]), 6),
            "tpr": round(float(tpr[i]), 6),
            "threshold": None if i == 0 else float(curve.thresholds[i - 1]),
        }
        for i in corners
    ]
