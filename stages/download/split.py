"""The group-aware split: related images share a group, and a group of good images is never in two splits."""

from __future__ import annotations

import hashlib
from typing import Literal

from stages.download.found import OfficialSplit

Split = Literal["train", "validation", "test"]


def percentile_of(text: str) -> int:
    """h(s) = int(first 8 hex digits of sha256(s)) mod 100: a number in 0..99 that depends on the text alone."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) % 100


def split_of(fold: int, group: str, is_good: bool) -> Split:
    """Split of an image: about 30 % of the good groups are test, 10 % validation, 60 % train; every defect is test."""
    if not is_good:
        return "test"
    value = percentile_of(f"{fold}-{group}")
    if value >= 70:
        return "test"
    return "validation" if value >= 60 else "train"


def official_split_of(fold: int, group: str, is_good: bool, given: OfficialSplit, has_validation: bool) -> Split:
    """The publisher's split where there is one, else `split_of`.

    If the publisher chose no validation images for a category, the training groups that `split_of` would put into
    validation are validation; those that it would put into test stay in train.

    Args:
        given: the publisher's split of the image; empty if there is none.
        has_validation: whether the publisher chose validation images for the category.
    """
    if not given:
        return split_of(fold, group, is_good)
    if not is_good or given == "test":
        return "test"
    if given == "train" and not has_validation:
        return "validation" if split_of(fold, group, is_good) == "validation" else "train"
    return given
