"""What the thresholds of a category promise, in words: for the terminal and the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stages.score.config import ScoreConfig


def promise(values: Mapping[str, Any], score: ScoreConfig) -> str:
    """One sentence.

    Args:
        values: metrics of a detector that has a threshold.
        score: section `score` of params.yaml, with which the threshold was set.
    """
    bound, risk = f"{values['overkill_bound']:.1%}", f"{values['overkill_risk']:.0%}"
    if score.guarantee == "average":
        what = f"On average over lines whose thresholds are set alike, at most {bound} of good parts are rejected"
    else:
        what = f"With a confidence of {score.confidence:.0%}, this line rejects at most {bound} of good parts"
    return f"{what}; the chance that this line rejects more than {score.target_overkill:.1%} is {risk}."
