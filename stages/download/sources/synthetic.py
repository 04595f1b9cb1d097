"""Rendered parts with rendered defects and exact masks, for tests and demonstrations."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stages.download.config import DataConfig
from stages.download.found import Rejected, SourceImage
from stages.download.sources.drawing import DEFECT_TYPES, LOT, render

VERSION = 1
"""To be raised when the rendering changes, so that files of an older version are not used."""


def find(config: DataConfig, root: Path) -> Iterator[SourceImage | Rejected]:
    """Good parts, then defective parts of each type in turn; there is no official split.

    Args:
        root: a folder for the files (PNG); missing files are rendered into it. A file depends on seed, side, category
            and number alone, so asking for more images leaves the existing ones as they are.
    """
    settings = config.synthetic
    folder = root / f"drawn{VERSION}-seed{settings.seed}-side{settings.side}"
    for category in config.categories:
        for number in range(settings.normals):
            yield _part(config, folder / category, category, number, "")
        for number in range(settings.defects):
            yield _part(config, folder / category, category, number, DEFECT_TYPES[number % len(DEFECT_TYPES)])


def _part(config: DataConfig, base: Path, category: str, number: int, defect_type: str) -> SourceImage:
    name = f"defect/{defect_type}/{number:05d}.png" if defect_type else f"normal/{number:05d}.png"
    file, mask = base / name, base / f"masks/{defect_type}/{number:05d}.png"
    if not file.exists():
        part = render(config.synthetic.seed, category, number, config.synthetic.side, defect_type)
        if defect_type:
            _write(mask, part.mask.astype(np.uint8) * 255)
        _write(file, part.image)  # last: if the image exists, so does its mask
    group = f"lot{number // LOT}"
    return SourceImage(file, name, category, group, defect_type, (mask,) if defect_type else ())


def _write(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write as PNG, completely or not at all."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    unfinished.write_bytes(buffer.getvalue())
    unfinished.replace(path)
