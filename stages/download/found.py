"""What a source reports for each image file, before any image is opened."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

OfficialSplit = Literal["", "train", "validation", "test"]


@dataclass(frozen=True)
class SourceImage:
    """One image file and what its source knows of it."""

    file: Path
    name: str
    """Path below the category's folder, '/' between parts; unique within the category."""
    category: str
    group: str
    """Images that share a group are never in two splits of a split by groups."""
    defect_type: str = ""
    """Empty for a good image."""
    masks: tuple[Path, ...] = ()
    """Images of the defect's pixels; with several masks, their union counts."""
    mask_above: int = 127
    """Pixels of a mask with a value above this are defective."""
    split: OfficialSplit = ""
    """The publisher's split; empty where there is none."""

    @property
    def is_good(self) -> bool:
        return not self.defect_type


@dataclass(frozen=True)
class Rejected:
    """A file that cannot be used."""

    path: str
    category: str
    reason: str


def same_file(name: str) -> str:
    """The name in a form that is equal for names which some file systems take for one: without letter case and spelling
    of accents."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
