"""Which images are meant, and each of them read once: bytes, digest, pixels at the sides that the models need."""

from __future__ import annotations

import glob
import hashlib
import io
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stages.download.config import DataConfig
from stages.download.examine import max_bytes_for, read_unchanged
from stages.download.sources.files import images_below, is_folder, is_image
from stages.images import ImageFault, decode, mode_of, to_square

STDIN = "-"


@dataclass(frozen=True)
class Opened:
    """An image file."""

    path: str
    sha256: str = ""
    width: int = 0
    height: int = 0
    """In pixels, upright, before it is resized."""
    mode: str = ""
    """Of the file's own pixels, as `mode_of` names it."""
    squares: Mapping[int, NDArray[np.uint8]] = field(default_factory=dict)
    """(S, S, 3) by side S."""
    fault: str = ""
    """Why it cannot be used; all else but the path is empty then."""


def named(arguments: Sequence[str], left_out: Path) -> tuple[list[str], list[str]]:
    """Paths of the images that arguments name, each once, in order; and the arguments that name none.

    A file is taken whatever its ending; of folders (at any depth) and globs, those with an image's ending. `-` stands
    for the arguments that stand on standard input, one a line, or separated by NUL.

    Args:
        left_out: a folder whose images are not meant: pictures made here.
    """
    found: dict[str, str] = {}
    nothing = []
    hidden = os.path.realpath(left_out) + os.sep
    for argument in _with_stdin(arguments):
        paths = list(_paths(argument))
        for path in paths:
            real = os.path.realpath(path)
            if not real.startswith(hidden):
                found.setdefault(real, path)
        if not paths:
            nothing.append(argument)
    return list(found.values()), nothing


def _with_stdin(arguments: Iterable[str]) -> Iterator[str]:
    for argument in arguments:
        if argument == STDIN:
            given = os.fsdecode(sys.stdin.buffer.read())
            yield from (line for line in given.split("\0" if "\0" in given else "\n") if line.strip())
        else:
            yield argument


def _paths(argument: str) -> Iterator[str]:
    if is_folder(Path(argument)):
        yield from (os.path.join(argument, inner) for inner in sorted(images_below(Path(argument))))  # noqa: PTH118
    elif not os.path.lexists(argument) and glob.has_magic(argument):
        for path in sorted(glob.iglob(argument, recursive=True)):  # noqa: PTH207
            if is_folder(Path(path)):
                yield from _paths(path)
            elif is_image(path):
                yield path
    else:
        yield argument


def read(path: str, sides: Iterable[int], data: DataConfig) -> Opened:
    """The image as in training: same limits, same way to RGB, same resizing. Never raises for what a file holds.

    Raises:
        MemoryError: there is not enough for its pixels.
    """
    try:
        content, _ = read_unchanged(Path(path), max_bytes_for(data.max_pixels))
        image = decode(content, min_side=data.min_side, max_pixels=data.max_pixels)
    except ImageFault as fault:
        return Opened(path, fault=str(fault))
    with Image.open(io.BytesIO(content)) as file:
        mode = mode_of(file)
    return Opened(
        path=path,
        sha256=hashlib.sha256(content).hexdigest(),
        width=image.width,
        height=image.height,
        mode=mode,
        squares={side: to_square(image, side) for side in sides},
    )


def note_on(image: Opened, training: Mapping[str, Any]) -> str:
    """In what the file differs from the training images of its category (`training_images` in bundle.json)."""
    found = []
    for name, value in (("width", image.width), ("height", image.height)):
        low, high = training[name]
        if not low <= value <= high:
            found.append(f"{name} {value}, in training {low if low == high else f'{low} to {high}'}")
    if image.mode not in training["modes"]:
        found.append(f"mode {image.mode}, in training {' '.join(training['modes'])}")
    return "; ".join(found)
