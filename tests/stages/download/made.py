"""Helpers for the tests of the data set: images, masks, source images."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image

from stages.download.config import DataConfig
from stages.download.found import SourceImage
from tests.stages.download.test_manifest import picture

CONFIG = DataConfig(source="folder", categories=("part",), max_rejected_fraction=1)


def mask(path: Path, values: dict[int, int], side: int = 24) -> Path:
    """A mask that is 0 except for pixels of the first row, given as column: value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((side, side), np.uint8)
    for column, value in values.items():
        pixels[0, column] = value
    Image.fromarray(pixels).save(path)
    return path


def settle(folder: Path) -> None:
    """Date all files back: the index takes no file that was changed a moment ago."""
    for path in folder.rglob("*"):
        if path.is_file():
            os.utime(path, ns=(10**18, 10**18 + path.stat().st_mtime_ns % 10**9))


def defect(folder: Path, *masks: Path, above: int = 127, defect_type: str = "spot") -> SourceImage:
    picture(folder / "in" / "bad.png", 100)
    return SourceImage(folder / "in" / "bad.png", "bad.png", "part", "bad", defect_type, masks, above)


def broken(path: Path) -> Path:
    path.write_bytes(b"no mask")
    return path


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
