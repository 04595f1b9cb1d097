"""Arrays as small pictures inside the page. Same array, same bytes."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.show.overlay import overlay
from stages.images import decode, decode_mask

SIDE = 256
"""Length in pixels of a picture's longer side; on the page they are at most about 200 wide."""
QUALITY = 78
SMALLEST_HEAT = 128
"""Longer side of the map over an image that is smaller."""
MASK_COLOUR = (229, 57, 83)
MASK_OPACITY = 0.55


@dataclass(frozen=True)
class Picture:
    """What an <img> needs."""

    caption: str
    """A word or two below it."""
    alt: str
    address: str
    """`data:image/webp;base64,...`"""
    width: int
    height: int


def picture(image: Image.Image, caption: str, alt: str) -> Picture:
    """An RGB or grey image as WebP."""
    file = io.BytesIO()
    image.save(file, "WEBP", quality=QUALITY, method=4)
    address = "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode("ascii")
    return Picture(caption, alt, address, *image.size)


def thumbnail(path: Path, side: int = SIDE) -> Image.Image:
    """An image file, its longer side brought to `side` where it is longer."""
    image = decode(path.read_bytes())
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return image


def heat(image: Image.Image, plane: NDArray[np.floating], limits: Sequence[float]) -> Image.Image:
    """The map (S, S) in colour over the grey image; `limits` are the values drawn darkest and brightest."""
    shown = overlay(image, plane, limits)  # at least 256 pixels long, so that the map of a small image is smooth
    side = max(*image.size, SMALLEST_HEAT)
    shown.thumbnail((side, side))
    return shown


def marked(image: Image.Image, mask: Path) -> Image.Image:
    """The image, grey, with the pixels of a mask file in colour."""
    where = Image.fromarray(decode_mask(mask.read_bytes())).resize(image.size, Image.Resampling.NEAREST)
    inside = np.asarray(where)[..., None]  # (H, W, 1)
    grey = np.asarray(image.convert("L").convert("RGB"), np.float32)
    mixed = grey * (1 - MASK_OPACITY) + np.array(MASK_COLOUR, np.float32) * MASK_OPACITY
    return Image.fromarray(np.round(np.where(inside, mixed, grey)).astype(np.uint8))


def stored(values: NDArray[Any], like: Image.Image) -> Image.Image:
    """A detector's picture, (S, S, 3) uint8 or (S, S) in [0, 1], at its own size in the proportions of `like`."""
    pixels = values if values.ndim == 3 else np.round(np.clip(values.astype(np.float32), 0, 1) * 255).astype(np.uint8)
    scale = min(max(pixels.shape[:2]), max(like.size)) / max(like.size)
    size = (max(1, round(like.width * scale)), max(1, round(like.height * scale)))
    return Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR)


def drawn(path: Path, caption: str) -> Picture:
    """A picture that another stage drew, as WebP."""
    with Image.open(path) as image:
        return picture(image.convert("RGB"), "", caption)
