"""What a data source says of its files, before anyone has opened an image."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

OfficialSplit = Literal["", "train", "validation", "test"]


@dataclass(frozen=True)
class Found:
    """One image file and what its source knows of it."""

    file: Path
    name: str
    """Path below the category's folder, '/' between parts; unique within the category."""
    category: str
    group: str
    """Images that share a group never land on both sides of a split by groups."""
    defect_type: str = ""
    """Empty for a normal image."""
    masks: tuple[Path, ...] = ()
    """Images of the defect's pixels; of several, the union counts."""
    mask_above: int = 127
    """Pixels of a mask with a value above this are defective."""
    split: OfficialSplit = ""
    """The publisher's; empty where there is none."""

    @property
    def normal(self) -> bool:
        return not self.defect_type


@dataclass(frozen=True)
class Rejected:
    """A file that cannot be used."""

    path: str
    category: str
    reason: str


def same_file(name: str) -> str:
    """What a file system that ignores letter case, or the way that accents are written, takes a name for."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
