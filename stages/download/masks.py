"""Reads masks of defects as annotation tools write them.

A pixel counts as defective if it is not background. What is background depends on the file:

| file | background |
| --- | --- |
| with transparent pixels | what is transparent, whatever its colour |
| palette | black; without black in use, the palette's first colour |
| colour | black and nearly black |
| grey, no value above 100 | 0: the values are numbers of classes |
| other grey, 1 bit | the darker half of the range |

The range of grey values of more than 8 bits is the least of 8, 10, 12, 14 and 16 bits that holds the largest value.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stages.download.depth import choose_white
from stages.images import is_wide_grey, load_upright, to_rgb

CLASS_NUMBERS = 100
"""Grey masks without a value above this hold numbers of classes."""
NEARLY_BLACK = 32
"""Colour pixels of which no channel exceeds this are background: JPEG changes black by less."""
INVERTED = 0.9
"""Share of marked pixels above which a mask is taken for inverted."""

Marked = NDArray[np.bool_]


def marked_pixels(data: bytes, above: int, max_pixels: int | None = None) -> Marked:
    """(H, W) defective pixels of a mask.

    Args:
        above: for grey masks of 8 bits with values above CLASS_NUMBERS, the largest value that is background. If it is
            not 127, the publisher's rule is known, and it holds for every mask.

    Raises:
        ImageFault: as `stages.images.decode`.
    """
    image = load_upright(data, max_pixels=max_pixels)
    if above != 127:
        return _grey(to_rgb(image)) > above
    if image.has_transparency_data and (clear := np.asarray(image.convert("RGBA"))[..., 3] <= 127).any():
        return ~clear
    if image.mode == "P":
        return _of_palette(image)
    if is_wide_grey(image):
        return _of_grey(np.asarray(image), choose_white("auto", [int(np.asarray(image).max())]) // 2)
    rgb = np.asarray(to_rgb(image))
    if (rgb != rgb[..., :1]).any():
        return rgb.max(-1) > NEARLY_BLACK
    return _of_grey(rgb[..., 0], above)


def _grey(image: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(image.convert("L"))


def _of_palette(image: Image.Image) -> Marked:
    indices, rgb = np.asarray(image), np.asarray(image.convert("RGB"))
    black = (rgb == 0).all(-1)
    return ~black if black.any() else indices != 0


def _of_grey(values: NDArray[Any], above: int) -> Marked:
    return values > 0 if values.max() <= CLASS_NUMBERS else values > above
