"""The deployed threshold, from good images alone."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, Context, Decimal
from math import ceil

import numpy as np
from numpy.typing import NDArray

_DIGITS = 9
"""Significant digits of a threshold: enough to tell any two float32 scores apart."""


@dataclass(frozen=True)
class Threshold:
    """Where to cut, and what that promises."""

    value: float | None
    """An image is rejected where its score is *above* this. None without validation images."""
    overkill_bound: float | None
    """Chance, at most, that a new good image is rejected, if it is exchangeable with the validation images and judged
    by the model that judged them. One that has learnt from them since gives new images lower scores, as a rule."""
    note: str | None
    """Why the target was missed, or why there is no threshold; None where all is well."""


def deployed_threshold(validation: NDArray[np.float64], target: float) -> Threshold:
    """Conformal quantile of n scores of held-out good images: the k-th smallest, k = ceil((n + 1)(1 - target)).

    A new exchangeable score is above the k-th smallest with probability at most (n + 1 - k) / (n + 1) <= target
    (Vovk et al., Algorithmic Learning in a Random World, 2005; Lei et al., JASA 2018, section 2). With k > n no finite
    threshold keeps the promise; then the largest score is used, whose own promise is 1 / (n + 1), and the note says so.

    The value is rounded up to 9 significant digits, so that files and decisions hold the same number; rounding up can
    only lower the overkill.
    """
    count = len(validation)
    if count == 0:
        return Threshold(None, None, "no good validation images to set a threshold from")
    rank = ceil((count + 1) * (1 - target) - 1e-9)  # 1e-9: a product that is whole must not be rounded up
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
    """The decision: True where the image is called defective."""
    return np.asarray(scores, dtype=np.float64) > threshold


def _rounded_up(value: float) -> float:
    rounded = float(Context(prec=_DIGITS, rounding=ROUND_CEILING).create_decimal(Decimal(value)))
    return max(rounded, value)  # the nearest double of a decimal that is `value` itself may lie just below
