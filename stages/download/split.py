"""The group-aware split: consecutive or related images share a group, and a group never straddles train and test."""

from __future__ import annotations

import hashlib
from typing import Literal

from stages.download.found import OfficialSplit

Split = Literal["train", "validation", "test"]


def percentile_of(text: str) -> int:
    """h(s) = int(first 8 hex digits of sha256(s)) mod 100: a number in 0..99 that depends on the text alone."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) % 100


def split_of(fold: int, group: str, normal: bool) -> Split:
    """Split of an image: normal groups are about 30 % test, 10 % validation, 60 % train; every defect is test."""
    if not normal:
        return "test"
    value = percentile_of(f"{fold}-{group}")
    if value >= 70:
        return "test"
    return "validation" if value >= 60 else "train"


def official_split_of(fold: int, group: str, normal: bool, given: OfficialSplit, has_validation: bool) -> Split:
    """The publisher's split where there is one, else `split_of`.

    Where the publisher chose no validation images of a category, the training groups that `split_of` would choose are;
    those that it would test stay in train.
    """
    if not given:
        return split_of(fold, group, normal)
    if not normal or given == "test":
        return "test"
    if given == "train" and not has_validation:
        return "validation" if split_of(fold, group, normal) == "validation" else "train"
    return given
