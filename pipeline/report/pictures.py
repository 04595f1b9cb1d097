"""Images and arrays as small pictures inside the page. The same array gives the same bytes."""

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
"""Longer side of a picture in pixels; on the page pictures are at most about 200 pixels wide."""
QUALITY = 78
"""Of the WebP, 0 to 100."""
MIN_HEAT_MAP_SIDE = 128
"""Smallest longer side of a heat map in pixels, for images that are smaller."""
MASK_COLOUR = (229, 57, 83)
MASK_OPACITY = 0.55


@dataclass(frozen=True)
class Picture:
    """What an <img> needs."""

    caption: str
    """A few words below the picture."""
    alt: str
    data_url: str
    """`data:image/webp;base64,...`"""
    width: int
    height: int


def embed(image: Image.Image, caption: str, alt: str) -> Picture:
    """Encode an RGB or grey image as WebP."""
    file = io.BytesIO()
    image.save(file, "WEBP", quality=QUALITY, method=4)
    data_url = "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode("ascii")
    return Picture(caption, alt, data_url, *image.size)


def thumbnail(path: Path, side: int = SIDE) -> Image.Image:
    """An image file, reduced so that its longer side is at most `side`."""
    image = decode(path.read_bytes())
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return image


def heat_map(image: Image.Image, anomaly_map: NDArray[np.floating], limits: Sequence[float]) -> Image.Image:
    """An anomaly map in colour over the grey image.

    Args:
        anomaly_map: (S, S).
        limits: values with the darkest and the brightest colour.
    """
    rendered = overlay(image, anomaly_map, limits)  # at least 256 pixels long, so that the map is smooth
    side = max(*image.size, MIN_HEAT_MAP_SIDE)
    rendered.thumbnail((side, side))
    return rendered


def mark_defect(image: Image.Image, mask: Path) -> Image.Image:
    """The image in grey, with the pixels of a mask file in colour."""
    resized = Image.fromarray(decode_mask(mask.read_bytes())).resize(image.size, Image.Resampling.NEAREST)
    inside = np.asarray(resized)[..., None]  # (H, W, 1)
    grey = np.asarray(image.convert("L").convert("RGB"), np.float32)
    mixed = grey * (1 - MASK_OPACITY) + np.array(MASK_COLOUR, np.float32) * MASK_OPACITY
    return Image.fromarray(np.round(np.where(inside, mixed, grey)).astype(np.uint8))


def detector_picture(values: NDArray[Any], like: Image.Image) -> Image.Image:
    """A picture that a detector stored, with the aspect ratio of `like`.

    Args:
        values: (S, S, 3) uint8, or (S, S) in 0..1.
    """
    pixels = values if values.ndim == 3 else np.round(np.clip(values.astype(np.float32), 0, 1) * 255).astype(np.uint8)
    scale = min(max(pixels.shape[:2]), max(like.size)) / max(like.size)
    size = (max(1, round(like.width * scale)), max(1, round(like.height * scale)))
    return Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR)


def load_rendered(path: Path, alt: str) -> Picture:
    """A picture file that another stage rendered, without a caption."""
    with Image.open(path) as image:
        return embed(image.convert("RGB"), "", alt)
