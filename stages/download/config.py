"""Parameters of the data: where images come from, which are refused, how they are split."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator

from stages.types import Config


class DataConfig(Config):
    """Section `data` of params.yaml."""

    source: Literal["elpv", "folder"] = "elpv"
    """`elpv`: solar cells from the package elpv-dataset. `folder`: your own images below `folder`."""
    folder: str = "data/own"
    """For `folder`: where `normal/`, optional `defect/<type>/` and optional `masks/<type>/` lie; with several
    categories, a folder of that layout for each, by name. Changes there make the pipeline stale."""
    categories: Annotated[tuple[str, ...], Field(min_length=1)] = ("mono",)
    """Kinds of part, each with detectors of its own. For `elpv`: mono, poly."""
    fold: Annotated[int, Field(ge=0, le=4)] = 0
    """Which of the five group-aware splits."""
    uncertain: Literal["leave_out", "defect"] = "leave_out"
    """For `elpv`: what becomes of images whose defect probability is neither 0 nor 1."""
    group_pattern: str | None = None
    """For `folder`: regular expression searched in the path below the folder; images whose first group (or whole match)
    agrees never land on both sides of the split. null: each image is a group of its own."""
    min_side: Annotated[int, Field(ge=2, le=4096)] = 16
    """Images with a side below this many pixels are rejected."""
    max_pixels: Annotated[int, Field(ge=256)] = 50_000_000
    """Images of more pixels are rejected before they are decoded."""
    max_rejected_fraction: Annotated[float, Field(ge=0, le=1)] = 0.05
    """The run stops when a larger share of the images cannot be used."""

    @field_validator("categories")
    @classmethod
    def _plain_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
                raise ValueError(f"category {name!r}: use letters, digits, '_' and '-' only")
        if len(set(value)) != len(value):
            raise ValueError("a category is named twice")
        return value

    @field_validator("group_pattern")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                re.compile(value)
            except re.error as fault:
                raise ValueError(f"not a regular expression: {fault}") from fault
        return value
