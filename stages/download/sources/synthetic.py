"""Drawn parts with drawn defects and exact masks, for tests and demonstrations."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stages.download.config import DataConfig
from stages.download.found import Found, Rejected
from stages.download.sources.drawing import KINDS, LOT, draw

VERSION = 1
"""To be raised when the drawing changes, so that files of an older one are not taken for it."""


def find(config: DataConfig, root: Path) -> Iterator[Found | Rejected]:
    """Good parts, then defective ones of each kind in turn; there is no official split.

    Args:
        root: a folder for the files (PNG), which are drawn where they are not there yet. They depend on the seed, the
            side, the category and the number alone, so asking for more leaves those that there are as they were.
    """
    settings = config.synthetic
    drawn = root / f"drawn{VERSION}-seed{settings.seed}-side{settings.side}"
    for category in config.categories:
        for number in range(settings.normals):
            yield _part(config, drawn / category, category, number, "")
        for number in range(settings.defects):
            yield _part(config, drawn / category, category, number, KINDS[number % len(KINDS)])


def _part(config: DataConfig, base: Path, category: str, number: int, kind: str) -> Found:
    name = f"defect/{kind}/{number:05d}.png" if kind else f"normal/{number:05d}.png"
    file, mask = base / name, base / f"masks/{kind}/{number:05d}.png"
    if not file.exists():
        drawing = draw(config.synthetic.seed, category, number, config.synthetic.side, kind)
        if kind:
            _write(mask, drawing.mask.astype(np.uint8) * 255)
        _write(file, drawing.image)  # last: where it is, its mask is too
    group = f"lot{number // LOT}"
    return Found(file, name, category, group, kind, (mask,) if kind else ())


def _write(path: Path, pixels: NDArray[np.uint8]) -> None:
    """As PNG, whole or not at all."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    unfinished.write_bytes(buffer.getvalue())
    unfinished.replace(path)
