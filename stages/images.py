"""Reads any supported image file as RGB bytes, each mode in one documented way."""

from __future__ import annotations

import io
import re
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError

SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".pbm", ".pgm", ".ppm"}
)
WHITE_16 = 65_535
"""Largest value of 16 bits."""
MAX_METADATA = 1 << 26
"""Bytes. A text or colour profile of a PNG that unpacks to more is not read. Pillow's own limit is 1 MiB, which XMP of
cameras exceeds."""

PngImagePlugin.MAX_TEXT_CHUNK = MAX_METADATA
Image.MAX_IMAGE_PIXELS = None  # `decode` checks the number of pixels itself, before it decodes
_WIDE_COLOUR = re.compile("(RGB|LA).?;16[BLN]$")
"""Pillow's names for 16 bits per channel; without the byte order they mean 16 bits per pixel."""
_WIDE_GREY_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N")
_METADATA_LIMIT = re.compile("MAX_TEXT_|text chunks|Decompressed data too large", re.IGNORECASE)
_SIGNATURES = re.compile(
    rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff|BM.{4}\0\0\0\0|II\*\0|MM\0\*|RIFF.{4}WEBP|GIF8[79]a|P[1-6]\s", re.DOTALL
)
"""How files of the formats in SUFFIXES begin."""
SIGNATURE_BYTES = 12


class ImageFault(Exception):
    """The image cannot be used; the message is the reason, without the file's name."""


def decode(data: bytes, *, white: int = WHITE_16, min_side: int = 1, max_pixels: int | None = None) -> Image.Image:
    """The first frame as an upright RGB image.

    - 16-bit and 32-bit integer grey: 0..`white` becomes 0..255, and other values are clipped. The scale is the same for
      all images, so that exposures can be compared. Float grey: 0..1 becomes 0..255.
    - Grey and 1-bit: three equal channels. Palette: its colours. CMYK, YCbCr, LAB, HSV: Pillow's conversion to RGB.
    - An alpha channel is composited on black.
    - The EXIF orientation is applied.

    Args:
        white: integer grey value that counts as white, for images of more than 8 bits.

    Raises:
        ImageFault: the data is empty, not an image or truncated; a side is below `min_side`; there are more than
            `max_pixels` pixels (checked before decoding); float values are outside 0..1; metadata exceed a limit.
        MemoryError: there is not enough memory for the pixels.
    """
    return to_rgb(load_upright(data, min_side=min_side, max_pixels=max_pixels), white)


def load_upright(data: bytes, *, min_side: int = 1, max_pixels: int | None = None) -> Image.Image:
    """The first frame, upright, in the mode of the file. Raises as `decode`."""
    if not data:
        raise ImageFault("the file is empty (0 bytes)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image: Image.Image = Image.open(io.BytesIO(data))
            _check_size(image, min_side, max_pixels)
            image.load()
            return ImageOps.exif_transpose(image)
    except (ImageFault, MemoryError):  # a lack of memory is no fault of the file
        raise
    except Exception as fault:
        raise _fault_of(fault) from fault


def _fault_of(fault: Exception) -> ImageFault:
    """The fault for what Pillow raised; its plugins raise whatever a broken file provokes."""
    if isinstance(fault, UnidentifiedImageError):
        return ImageFault("not an image in a known format")
    if isinstance(fault, ValueError) and _METADATA_LIMIT.search(str(fault)):
        return ImageFault(
            f"its metadata (PNG text or colour profile) unpack to more than {MAX_METADATA:,} bytes. This is a limit, "
            "no damage: save it without metadata"
        )
    text = " ".join([f"{type(fault).__name__}:", *str(fault).split()])
    return ImageFault(f"broken or truncated ({text[:100].rstrip(' :')})")


def begins_as_image(head: bytes) -> bool:
    """Whether the first SIGNATURE_BYTES bytes of a file are those of a format that is read, whatever its ending."""
    return _SIGNATURES.match(head) is not None


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


def is_wide_grey(image: Image.Image) -> bool:
    """Whether the pixels are integer grey values of more than 8 bits."""
    return image.mode in _WIDE_GREY_MODES


def full_range(image: Image.Image, white: int) -> NDArray[np.uint16]:
    """(H, W) grey values of an image of more than 8 bits, with 0..`white` stretched to all 16 bits; others clipped."""
    values = np.asarray(image).astype(np.float64)
    return np.clip(np.round(values * (WHITE_16 / white)), 0, WHITE_16).astype(np.uint16)


def to_rgb(image: Image.Image, white: int = WHITE_16) -> Image.Image:
    """An image of any mode as RGB, as described at `decode`. Raises ImageFault."""
    try:
        return _rgb(image, white)
    except (ImageFault, MemoryError):
        raise
    except Exception as fault:
        raise _fault_of(fault) from fault


def _rgb(image: Image.Image, white: int) -> Image.Image:
    if is_wide_grey(image):
        return _grey(np.round(full_range(image, white) / 257.0).astype(np.uint8))
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
