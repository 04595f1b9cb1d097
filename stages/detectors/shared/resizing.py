"""Images between the side that a detector's network sees and the side at which features are compared.

Legend: N images; B of them in a batch; S side that the network sees; T side of the images.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from stages.types import Rows, batches

Images = NDArray[np.uint8]
HALF_UP = 2**-10
"""Added before rounding to grey levels. Enlarging by a simple fraction gives exact halves. Without this their rounding
would depend on the last bit, which another processor or ONNX Runtime computes differently."""
_READ = 8
"""Images read at a time."""


def to_bytes(restoration: Tensor) -> Images:
    """(3, S, S) in [0, 1] -> (S, S, 3)."""
    return restoration.permute(1, 2, 0).mul(255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()


def reduce_images(images: Rows, side: int) -> Images:
    """(N, T, T, 3) -> (N, side, side, 3): the mean over squares of pixels, halves up; T is a multiple of `side`."""
    count, large = images.shape[:2]
    factor = large // side
    small = np.empty((count, side, side, 3), np.uint8)
    for rows in batches(count, _READ):
        sums = images[rows].reshape(-1, side, factor, side, factor, 3).sum(axis=(2, 4), dtype=np.uint32)
        small[rows] = (sums + factor**2 // 2) // factor**2
    return small


def enlarge_images(images: Images, side: int) -> Images:
    """(B, S, S, 3) -> (B, side, side, 3), bilinear, pixel centres aligned."""
    pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float()
    large = F.interpolate(pixels, (side, side), mode="bilinear", align_corners=False)
    return large.add(HALF_UP).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


def cell_shares(side: int, cells: int) -> NDArray[np.float32]:
    """(cells, side): the share of each cell that each of `side` pixels in a line covers."""
    size, pixel = side / cells, np.arange(side)
    start = np.arange(cells)[:, None] * size
    overlap = np.minimum(start + size, pixel + 1) - np.maximum(start, pixel)
    return (overlap.clip(min=0) / size).astype(np.float32)
