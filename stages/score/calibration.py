"""The deployed threshold, set by good validation images only."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, Context, Decimal
from math import ceil

import numpy as np
from numpy.typing import NDArray

_DIGITS = 9
"""Significant digits of a threshold: enough to distinguish any two float32 scores."""


@dataclass(frozen=True)
class Threshold:
    """A threshold, and the overkill that it guarantees."""

    value: float | None
    """An image is rejected if its score is *above* this. None without validation images."""
    overkill_bound: float | None
    """Largest chance that a new good image is rejected, if it is exchangeable with the validation images and scored by
    the model that scored them. A model that is also fitted on them usually gives new images lower scores."""
    note: str | None
    """Why the target cannot be guaranteed, or why there is no threshold; None otherwise."""


def deployed_threshold(validation: NDArray[np.float64], target: float) -> Threshold:
    """The threshold: the conformal quantile of the scores of good validation images.

    It is the k-th smallest of n scores, k = ceil((n + 1)(1 - target)). A new exchangeable score is above it with
    probability at most (n + 1 - k) / (n + 1) <= target (Vovk et al., Algorithmic Learning in a Random World, 2005; Lei
    et al., JASA 2018, section 2). If k > n, no finite threshold guarantees the target. Then the threshold is the
    largest score, which guarantees 1 / (n + 1), and the note says so.

    The value is rounded up to 9 significant digits, so that files and decisions use the same number. Rounding up can
    only lower the overkill.
    """
    count = len(validation)
    if count == 0:
        return Threshold(None, None, "no good validation images to set a threshold from")
    rank = ceil((count + 1) * (1 - target) - 1e-9)  # 1e-9: a whole product must not be rounded up
    note = None
    if rank > count:
        rank = count
        note = (
            f"{count} validation images promise an overkill of at most {1 / (count + 1):.3g}, not {target:g}; "
            f"at least {ceil(1 / target - 1 - 1e-9)} are needed, so the threshold is their largest score"
        )
    value = float(np.partition(validation, rank - 1)[rank - 1])
    return Threshold(_rounded_up(value), (count + 1 - rank) / (count + 1), note)


def rejected(scores: NDArray[np.floating], threshold: float) -> NDArray[np.bool_]:
    """The decisions: True for an image with a score above the threshold."""
    return np.asarray(scores, dtype=np.float64) > threshold


def _rounded_up(value: float) -> float:
    rounded = float(Context(prec=_DIGITS, rounding=ROUND_CEILING).create_decimal(Decimal(value)))
    return max(rounded, value)  # the double nearest to a decimal equal to `value` may be slightly smaller
