"""Grey values of more than 8 bits: which value counts as white, and images stretched to the full range.

Cameras of 10 or 12 bits write files of 16 bits that use a sixteenth or less of the range. Read as 16 bits, such images
keep one or a few grey levels.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image

from stages.images import WHITE_16, full_range

BITS = (8, 10, 12, 14, 16)
DARK = 0.1
"""An image whose largest value is below this share of white is named: its exposure or depth differs, or it is empty."""


def choose_white(bits: str | int, largest: Sequence[int]) -> int:
    """The value that counts as white in files of more than 8 bits.

    Args:
        bits: parameter `data.bits`.
        largest: the largest value of each good training image with such values. `auto` takes the least depth of BITS
            that holds them, and as many bits as needed above 16.
    """
    if isinstance(bits, int):
        return 2**bits - 1
    most = max(largest, default=WHITE_16)
    return 2 ** next((depth for depth in BITS if most < 2**depth), most.bit_length()) - 1


def stretched(image: Image.Image, white: int) -> bytes:
    """A grey image of more than 8 bits as an uncompressed TIFF of 16 bits, in which `white` has become 65535.

    Whoever reads it needs to know nothing of its depth. `to_rgb(image, white)` gives the same pixels.
    """
    file = io.BytesIO()
    Image.fromarray(full_range(image, white)).save(file, "TIFF")
    return file.getvalue()


def is_dark(largest: int, wide: bool, white: int) -> bool:
    """Whether an image uses less than a tenth of the range of its category.

    Args:
        wide: whether it has more than 8 bits; else 255 is white.
    """
    return largest < DARK * (white if wide else 255)
