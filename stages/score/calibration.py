"""The deployed threshold, set by good validation images only."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, Context, Decimal
from math import ceil, log1p

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, betaincinv

_DIGITS = 9
"""Significant digits of a threshold: enough to distinguish any two float32 scores."""


@dataclass(frozen=True)
class Threshold:
    """A threshold, and what it promises of a new good image that is exchangeable with the validation images and scored
    by the model that scored them."""

    value: float | None
    """An image is rejected if its score is *above* this. None without validation images."""
    overkill_bound: float | None
    """With `average`: largest chance that the image is rejected, over all draws of validation images. With
    `confidence`: the overkill that this line does not exceed with that confidence."""
    overkill_risk: float | None
    """Chance, over all draws of validation images, that the line's overkill exceeds the target."""
    note: str | None
    """Why the target cannot be promised, or why there is no threshold; None otherwise."""


def deployed_threshold(
    validation: NDArray[np.float64], target: float, guarantee: str = "average", confidence: float = 0.95
) -> Threshold:
    """The threshold: an order statistic of the scores of good validation images, the k-th smallest of n.

    - `average`: k = ceil((n + 1)(1 - target)), the conformal quantile. A new exchangeable score is above it with
      probability at most (n + 1 - k) / (n + 1) <= target (Vovk et al., Algorithmic Learning in a Random World, 2005;
      Lei et al., JASA 2018, section 2).
    - `confidence`: the least k for which the overkill, which is Beta(n + 1 - k, k) for continuous scores, is at most
      the target with this probability (Wilks, 1941; Vovk, Conditional validity of inductive conformal predictors, 2012,
      Proposition 2a).

    If k > n, no finite threshold promises the target. Then the threshold is the largest score, and the note says what
    it promises.

    The value is rounded up to 9 significant digits, so that files and decisions use the same number. Rounding up can
    only lower the overkill.
    """
    count = len(validation)
    if count == 0:
        return Threshold(None, None, None, "no good validation images to set a threshold from")
    if guarantee == "average":
        rank = ceil((count + 1) * (1 - target) - 1e-9)  # 1e-9: a whole product must not be rounded up
        needed, promise = ceil(1 / target - 1 - 1e-9), ""
    else:
        ranks = np.arange(1, count + 1)
        enough = betainc(count + 1 - ranks, ranks, target) >= confidence
        rank = int(ranks[enough][0]) if enough.any() else count + 1
        needed, promise = ceil(log1p(-confidence) / log1p(-target) - 1e-9), f" with a confidence of {confidence:g}"
    reached = min(rank, count)
    if guarantee == "average":
        bound = (count + 1 - reached) / (count + 1)
    else:
        bound = target if rank <= count else float(betaincinv(1, count, confidence))
    note = None
    if rank > count:
        note = (
            f"{count} validation images promise an overkill of at most {bound:.3g}{promise}, not {target:g}; "
            f"at least {needed} are needed, so the threshold is their largest score"
        )
    value = float(np.partition(validation, reached - 1)[reached - 1])
    risk = float(1 - betainc(count + 1 - reached, reached, target))
    return Threshold(_rounded_up(value), bound, risk, note)


def rejected(scores: NDArray[np.floating], threshold: float) -> NDArray[np.bool_]:
    """The decisions: True for an image with a score above the threshold."""
    return np.asarray(scores, dtype=np.float64) > threshold


def _rounded_up(value: float) -> float:
    rounded = float(Context(prec=_DIGITS, rounding=ROUND_CEILING).create_decimal(Decimal(value)))
    return max(rounded, value)  # the double nearest to a decimal equal to `value` may be slightly smaller
