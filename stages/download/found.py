"""A file that a data source offers, before anyone has opened it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Found:
    """One image file and what its source knows of it."""

    file: Path
    name: str
    """Path below the category's folder, '/' between parts; unique within the category."""
    category: str
    group: str
    """Images that share a group never land on both sides of the split."""
    defect_type: str = ""
    """Empty for a normal image."""
    mask: Path | None = None
    """Image of the defect's pixels."""

    @property
    def normal(self) -> bool:
        return not self.defect_type
