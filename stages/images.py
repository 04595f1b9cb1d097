"""Reads any supported image file as RGB bytes, each mode in one documented way."""

from __future__ import annotations

import io
import re
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm"})
_WIDE_COLOUR = re.compile("(RGB|LA).?;16[BLN]$")
"""Pillow's names for 16 bits per channel; without the byte order they mean 16 bits per pixel."""
_WIDE_GREY_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N")


class ImageFault(Exception):
    """The image cannot be used; the message is the reason, without the file's name."""


def decode(data: bytes, *, min_side: int = 1, max_pixels: int | None = None) -> Image.Image:
    """The first frame as an upright RGB image.

    - 16-bit and 32-bit integer grey: value / 257, clipped to 0..255; a fixed scale keeps exposures comparable between
      images. Float grey: 0..1 becomes 0..255.
    - Grey and 1-bit: three equal channels. Palette: its colours. CMYK, YCbCr, LAB, HSV: Pillow's conversion to RGB.
    - An alpha channel is composited on black.
    - The EXIF orientation is applied.

    Raises:
        ImageFault: the data is empty, not an image or truncated; a side is below `min_side`; there are more than
            `max_pixels` pixels (checked before decoding); float values are outside 0..1.
        MemoryError: there is not enough memory for the pixels.
    """
    if not data:
        raise ImageFault("the file is empty (0 bytes)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image: Image.Image = Image.open(io.BytesIO(data))
            _check_size(image, min_side, max_pixels)
            image.load()
            image = ImageOps.exif_transpose(image)
            return _rgb(image)
    except (ImageFault, MemoryError):  # a lack of memory is no fault of the file
        raise
    except Image.DecompressionBombError as fault:
        raise ImageFault("more pixels than Pillow decodes safely") from fault
    except UnidentifiedImageError as fault:
        raise ImageFault("not an image in a known format") from fault
    except Exception as fault:  # Pillow's plugins raise whatever a broken file provokes
        text = " ".join([f"{type(fault).__name__}:", *str(fault).split()])
        raise ImageFault(f"broken or truncated ({text[:100].rstrip(' :')})") from fault


def mode_of(image: Image.Image) -> str:
    """Pillow's name for the mode of an unread file, with `;16` appended for 16-bit colour, which Pillow reads as 8-bit.

    `L` is 8-bit grey, `I;16` 16-bit grey, `RGB;16` 16-bit colour, `1` black and white.
    """
    tiles = getattr(image, "tile", ())
    stored = [tile.args if isinstance(tile.args, str) else next(iter(tile.args or ()), None) for tile in tiles]
    return f"{image.mode};16" if any(_WIDE_COLOUR.match(str(mode)) for mode in stored) else image.mode


def _check_size(image: Image.Image, min_side: int, max_pixels: int | None) -> None:
    width, height = image.size
    if min(width, height) < min_side:
        raise ImageFault(f"{width}x{height} pixels; a side is below data.min_side = {min_side}")
    if max_pixels is not None and width * height > max_pixels:
        raise ImageFault(f"{width}x{height} = {width * height} pixels; more than data.max_pixels = {max_pixels}")


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in _WIDE_GREY_MODES:
        wide = np.asarray(image).astype(np.float64)
        return _grey(np.clip(np.round(wide / 257), 0, 255).astype(np.uint8))
    if image.mode == "F":
        values = np.asarray(image)
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
            raise ImageFault(f"float values outside 0..1 ({values.min():g} to {values.max():g})")
        return _grey(np.round(values * 255).astype(np.uint8))
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba).convert("RGB")
    return image.convert("RGB")


def _grey(values: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(values).convert("RGB")


def to_square(image: Image.Image, side: int) -> NDArray[np.uint8]:
    """(side, side, 3) uint8, bilinear with antialiasing. The aspect ratio is lost, so that every pixel counts."""
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR), dtype=np.uint8)


def decode_mask(data: bytes) -> NDArray[np.bool_]:
    """(H, W) defect pixels: grey value above 127 (masks are often anti-aliased).

    Raises:
        ImageFault: as `decode`.
    """
    grey: Any = decode(data).convert("L")
    return np.asarray(grey) > 127
