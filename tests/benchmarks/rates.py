"""AUROC of image scores, for benchmarks that judge without the stages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stages.score.intervals import bootstrap, percentile_interval
from stages.score.metrics import auroc, curve
from stages.score.resamples import group_numbers

RESAMPLES = 2000


def image_auroc(scores: NDArray[np.float64], defect: NDArray[np.bool_]) -> float:
    """To four digits."""
    counts = curve(scores, defect)
    return round(float(auroc(counts.tp, counts.fp)), 4)


def interval(scores: NDArray[np.float64], defect: NDArray[np.bool_], groups: Sequence[str]) -> list[float]:
    """95 %, bootstrap of groups."""
    values = bootstrap(scores, defect, group_numbers(groups), {"auroc": auroc}, RESAMPLES, seed=0)["auroc"]
    return [round(float(end), 4) for end in percentile_interval(values, 0.95, len(set(groups)))]
