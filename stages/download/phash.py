"""Perceptual hash: pictures that look alike have hashes that differ in few bits, whatever their exposure or encoding.

Source: the DCT hash of Zauner, "Implementation and benchmarking of perceptual image hash functions", 2010, section
3.2.1.
Deviation: 16 x 16 coefficients instead of 8 x 8, because parts of one kind look alike to 64 bits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE, KEPT = 64, 16
"""The image is reduced to SIDE x SIDE grey values; each of the KEPT x KEPT coefficients of lowest frequency gives a
bit."""
BITS = KEPT * KEPT


def perceptual_hash(image: Image.Image) -> str:
    """BITS bits as hex digits: which coefficients exceed their median, in which the mean brightness does not count."""
    from scipy.fft import dctn  # here, because judging reads images with this room and hashes none

    grey = image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX, reducing_gap=2.0)
    low = dctn(np.asarray(grey, np.float32), norm="ortho")[:KEPT, :KEPT].ravel()
    return np.packbits(low > np.median(low[1:])).tobytes().hex()


def unpack(hashes: list[str]) -> NDArray[np.uint8]:
    """(N, BITS) bits, 0 or 1."""
    return np.unpackbits(np.frombuffer(bytes.fromhex("".join(hashes)), np.uint8)).reshape(len(hashes), BITS)
