"""The group-aware split: consecutive or related images share a group, and a group never straddles train and test."""

from __future__ import annotations

import hashlib
from typing import Literal

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
