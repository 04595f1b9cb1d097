"""Reads and decodes one image or mask file, and collects the facts that its bytes determine."""

from __future__ import annotations

import hashlib
import io
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from stages.download.masks import INVERTED, marked_pixels
from stages.download.phash import perceptual_hash
from stages.images import ImageFault, decode_mask, is_wide_grey, load_upright, mode_of, to_rgb

READ_ATTEMPTS = 3
BYTES_PER_PIXEL, EXTRA_BYTES = 16, 1 << 24
"""A larger file than BYTES_PER_PIXEL * data.max_pixels + EXTRA_BYTES is not read into memory."""

UNSETTLED_NS = 50_000_000
"""A file changed less than this before it was read may change again within one tick of the file system's clock."""

State = tuple[int, int, int, int]
"""Size in bytes, times of the last changes of content and of the directory entry in nanoseconds, inode. Equal states
mean an unchanged file."""


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What the bytes of an image file determine. `reason` says why the image cannot be used; it is empty if it can."""

    sha256: str = ""
    width: int = 0
    height: int = 0
    phash: str = ""
    reason: str = ""
    largest: int = 0
    """Largest value of any channel, in the units of the file if `wide`, else 0 to 255."""
    wide: bool = False
    """Whether the pixels are grey values of more than 8 bits."""
    mode: str = ""
    """Pixel format of the file, as `mode_of` names it."""


@dataclass(frozen=True, slots=True)
class MaskFacts:
    """What the bytes of mask files determine."""

    width: int = 0
    height: int = 0
    marked: int = 0
    """Number of defective pixels."""
    reason: str = ""
    plain: bool = False
    """Whether `stages.images.decode_mask` reads the file of a single mask like this, so that it can be copied."""


def state_of(path: Path) -> State:
    """Raises OSError."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def is_settled(state: State) -> bool:
    """Whether every later change of the file, which has just been read, will show in its state."""
    return time.time_ns() - state[1] > UNSETTLED_NS


def read_unchanged(path: Path, max_bytes: int) -> tuple[bytes, State]:
    """The file's bytes and the state that they belong to.

    Raises:
        ImageFault: the file cannot be read, is larger than `max_bytes`, or keeps changing.
    """
    try:
        for _ in range(READ_ATTEMPTS):
            state = state_of(path)
            if state[0] > max_bytes:
                raise ImageFault(f"{state[0]:,} bytes, more than an image of data.max_pixels can need ({max_bytes:,})")
            data = path.read_bytes()
            if len(data) == state[0] and state_of(path) == state:
                return data, state
    except FileNotFoundError as fault:
        raise ImageFault("it is not there (any more)") from fault
    except OSError as fault:
        raise ImageFault(f"it cannot be read ({os.strerror(fault.errno or 0)})") from fault
    raise ImageFault("it changes while it is read")


def examine_image(data: bytes, min_side: int, max_pixels: int) -> ImageFacts:
    """Decode the image completely. What the bytes hold never raises an error."""
    try:
        image = load_upright(data, min_side=min_side, max_pixels=max_pixels)
        wide = is_wide_grey(image)
        largest = largest_value(image) if wide else 0
        rgb = to_rgb(image)
    except ImageFault as fault:
        return ImageFacts(reason=str(fault))
    return ImageFacts(
        hashlib.sha256(data).hexdigest(),
        rgb.width,
        rgb.height,
        perceptual_hash(rgb),
        largest=largest if wide else largest_value(rgb),
        wide=wide,
        mode=mode_in(data),
    )


def largest_value(image: Image.Image) -> int:
    """Largest value of any channel."""
    return int(np.asarray(image).max())


def mode_in(data: bytes) -> str:
    """Pixel format of an image file that has been decoded before, as `mode_of` names it."""
    with Image.open(io.BytesIO(data)) as image:
        return mode_of(image)


def examine_masks(masks: Sequence[tuple[str, bytes]], above: int, max_pixels: int) -> tuple[MaskFacts, bytes]:
    """Union of the masks: facts, and a PNG with values 0 and 255.

    The same pixels give the same PNG bytes. What the bytes hold never raises an error; without usable masks the PNG is
    empty.
    """
    union = None
    for name, data in masks:
        try:
            marked = marked_pixels(data, above, max_pixels)
        except ImageFault as fault:
            return MaskFacts(reason=f"its mask {name}: {fault}"), b""
        if union is not None and union.shape != marked.shape:
            sizes = f"{marked.shape[1]}x{marked.shape[0]}, another of its masks {union.shape[1]}x{union.shape[0]}"
            return MaskFacts(reason=f"its mask {name} is {sizes}"), b""
        union = marked if union is None else union | marked
    assert union is not None  # called with at least one mask
    share = union.mean()
    if share > INVERTED:
        name = masks[0][0]
        return MaskFacts(reason=f"its mask {name} marks {share:.0%} of the pixels: is it inverted?"), b""
    plain = len(masks) == 1 and bool((decode_mask(masks[0][1]) == union).all())
    file = io.BytesIO()
    Image.fromarray(union.astype(np.uint8) * 255).save(file, "PNG")
    height, width = union.shape
    return MaskFacts(width, height, int(union.sum()), plain=plain), file.getvalue()


def max_bytes_for(max_pixels: int) -> int:
    """Largest size in bytes of a file that is read."""
    return BYTES_PER_PIXEL * max_pixels + EXTRA_BYTES
