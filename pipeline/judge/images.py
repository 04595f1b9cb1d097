"""Find the images that the user named, and load each once: bytes, digest, and pixels at the sizes of the models."""

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
class LoadedImage:
    """An image file, or the reason why it cannot be used."""

    path: str
    sha256: str = ""
    width: int = 0
    height: int = 0
    """In pixels, upright, before resizing."""
    mode: str = ""
    """Pixel format of the file, as `mode_of` names it."""
    squares: Mapping[int, NDArray[np.uint8]] = field(default_factory=dict)
    """Side S -> pixels (S, S, 3)."""
    fault: str = ""
    """Why the file cannot be used; then all other fields but `path` are empty."""


def resolve_paths(arguments: Sequence[str], excluded: Path) -> tuple[list[str], list[str]]:
    """Paths of the images that arguments name, each once, in order; and the arguments that name no image.

    A file is taken whatever its suffix. Of folders (at any depth) and globs, the files with the suffix of an image are
    taken. `-` stands for the arguments on standard input, one per line or separated by NUL.

    Args:
        excluded: a folder whose images are left out: the overlays of an earlier run.
    """
    by_real_path: dict[str, str] = {}
    unmatched = []
    excluded_prefix = os.path.realpath(excluded) + os.sep
    for argument in _with_stdin(arguments):
        paths = list(_image_paths(argument))
        for path in paths:
            real_path = os.path.realpath(path)
            if not real_path.startswith(excluded_prefix):
                by_real_path.setdefault(real_path, path)
        if not paths:
            unmatched.append(argument)
    return list(by_real_path.values()), unmatched


def _with_stdin(arguments: Iterable[str]) -> Iterator[str]:
    for argument in arguments:
        if argument == STDIN:
            text = os.fsdecode(sys.stdin.buffer.read())
            yield from (line for line in text.split("\0" if "\0" in text else "\n") if line.strip())
        else:
            yield argument


def _image_paths(argument: str) -> Iterator[str]:
    if is_folder(Path(argument)):
        yield from (os.path.join(argument, inner) for inner in sorted(images_below(Path(argument))))  # noqa: PTH118
    elif not os.path.lexists(argument) and glob.has_magic(argument):
        for path in sorted(glob.iglob(argument, recursive=True)):  # noqa: PTH207
            if is_folder(Path(path)):
                yield from _image_paths(path)
            elif is_image(path):
                yield path
    else:
        yield argument


def displayable_path(path: str) -> str:
    """A path as valid text, also if its bytes are not UTF-8."""
    return os.fsencode(path).decode("utf-8", "replace")


def load_image(path: str, sides: Iterable[int], data: DataConfig) -> LoadedImage:
    """Load an image as in training: same limits, same conversion to RGB, same resizing.

    What is wrong with the file is returned as `fault`, never raised.

    Args:
        sides: sides in pixels of the squares to resize it to.

    Raises:
        MemoryError: its pixels do not fit into memory.
    """
    try:
        content, _ = read_unchanged(Path(path), max_bytes_for(data.max_pixels))
        image = decode(content, min_side=data.min_side, max_pixels=data.max_pixels)
    except ImageFault as fault:
        return LoadedImage(path, fault=str(fault))
    with Image.open(io.BytesIO(content)) as file:
        mode = mode_of(file)
    return LoadedImage(
        path=path,
        sha256=hashlib.sha256(content).hexdigest(),
        width=image.width,
        height=image.height,
        mode=mode,
        squares={side: to_square(image, side) for side in sides},
    )


def describe_differences(image: LoadedImage, training_images: Mapping[str, Any]) -> str:
    """How a file differs from the training images of its category; empty if it does not.

    Args:
        training_images: of this category, as in bundle.json.
    """
    differences = []
    for name, value in (("width", image.width), ("height", image.height)):
        low, high = training_images[name]
        if not low <= value <= high:
            differences.append(f"{name} {value}, in training {low if low == high else f'{low} to {high}'}")
    if image.mode not in training_images["modes"]:
        differences.append(f"mode {image.mode}, in training {' '.join(training_images['modes'])}")
    return "; ".join(differences)
