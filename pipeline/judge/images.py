"""Find the images that the user named, and load each once: bytes, digest, and pixels at the sizes of the models."""

from __future__ import annotations

import glob
import hashlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.download.config import DataConfig
from stages.download.depth import is_dark, stretched
from stages.download.examine import largest_value, max_bytes_for, mode_in, read_unchanged
from stages.download.sources.files import images_below, is_folder, is_image, unread_files
from stages.images import WHITE_16, ImageFault, is_wide_grey, load_upright, to_rgb, to_square

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
    identity: str = ""
    """Digest of the file as the data set would hold it, by which models know an image."""
    largest: int = 0
    """Largest value of any channel, in the units of the file if `wide`, else 0 to 255."""
    wide: bool = False
    """Whether the pixels are grey values of more than 8 bits."""
    squares: Mapping[int, NDArray[np.uint8]] = field(default_factory=dict)
    """Side S -> pixels (S, S, 3)."""
    fault: str = ""
    """Why the file cannot be used; then all other fields but `path` are empty."""


def resolve_paths(arguments: Sequence[str], excluded: Path) -> tuple[list[str], list[str]]:
    """Paths of the images that arguments name, each once, in order; and the arguments that name no image.

    A file is taken whatever it is. Of folders (at any depth) and globs, the files are taken that are images by their
    ending or by their first bytes. `-` stands for the arguments on standard input, one per line or separated by NUL.

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


def unread_below(arguments: Sequence[str]) -> list[str]:
    """Files below the folders among the arguments that are not read, because they are not images that can be read."""
    folders = [argument for argument in arguments if argument != STDIN and is_folder(Path(argument))]
    return [os.path.join(folder, path) for folder in folders for path in unread_files(Path(folder))]  # noqa: PTH118


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
            elif is_image(Path(path)):
                yield path
    else:
        yield argument


def displayable_path(path: str) -> str:
    """A path as valid text, also if its bytes are not UTF-8."""
    return os.fsencode(path).decode("utf-8", "replace")


def load_image(path: str, sides: Iterable[int], data: DataConfig, white: int = WHITE_16) -> LoadedImage:
    """Load an image as in training: same limits, same depth, same conversion to RGB, same resizing.

    What is wrong with the file is returned as `fault`, never raised.

    Args:
        sides: sides in pixels of the squares to resize it to.
        white: grey value that counts as white in files of more than 8 bits, as in training.

    Raises:
        MemoryError: its pixels do not fit into memory.
    """
    try:
        content, _ = read_unchanged(Path(path), max_bytes_for(data.max_pixels))
        loaded = load_upright(content, min_side=data.min_side, max_pixels=data.max_pixels)
        wide = is_wide_grey(loaded)
        stored = stretched(loaded, white) if wide and white != WHITE_16 else content  # as stage `download` stores it
        image = to_rgb(loaded, white)
    except ImageFault as fault:
        return LoadedImage(path, fault=str(fault))
    return LoadedImage(
        path=path,
        sha256=hashlib.sha256(content).hexdigest(),
        width=image.width,
        height=image.height,
        mode=mode_in(content),
        identity=hashlib.sha256(stored).hexdigest(),
        largest=largest_value(loaded if wide else image),
        wide=wide,
        squares={side: to_square(image, side) for side in sides},
    )


def describe_differences(image: LoadedImage, training_images: Mapping[str, Any], white: int = WHITE_16) -> str:
    """How a file differs from the training images of its category; empty if it does not.

    Args:
        training_images: of this category, as in bundle.json.
        white: grey value that counts as white in files of more than 8 bits.
    """
    differences = []
    for name, value in (("width", image.width), ("height", image.height)):
        low, high = training_images[name]
        if not low <= value <= high:
            differences.append(f"{name} {value}, in training {low if low == high else f'{low} to {high}'}")
    if image.mode not in training_images["modes"]:
        differences.append(f"mode {image.mode}, in training {' '.join(training_images['modes'])}")
    if image.wide and image.largest > white:
        differences.append(f"values up to {image.largest}, in training {white} counts as white")
    if is_dark(image.largest, image.wide, white):
        differences.append(f"largest value {image.largest} of {white if image.wide else 255}")
    return "; ".join(differences)
