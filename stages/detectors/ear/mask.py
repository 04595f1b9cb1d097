"""Where to cut: the saliency of an image's patches, and the mask that follows from it without randomness.

There are two sources of saliency: the class token's attention (the paper), and rarity, the distance of a patch's
feature to its nearest neighbours among the features of good images (patch memory: Roth et al., PatchCore, CVPR 2022).
The memory is sampled at random instead of by a greedy coreset: it costs a tenth, and the mask needs only the highest
patches of an image.

Legend: h, w patch grid; P = h * w patches; C channels; M features in memory; S image side in pixels.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from stages.detectors.shared.highest import top_count
from stages.detectors.shared.nearest import Search


def mask_of(saliency: NDArray[np.float32], side: int, fraction: float) -> NDArray[np.bool_]:
    """The most salient `fraction` of the pixels, grown by half a patch.

    The saliency is resized to (S, S) bilinearly. To grow a thresholded map by a square is the same as to threshold the
    map's maxima over that square. So the threshold is applied after the growth, and every mask has the same area, which
    makes kinds of saliency comparable. Equal maxima are ordered by the saliency itself, then by position.

    Args:
        saliency: (h, w), any range.

    Returns:
        (S, S) bool with round(fraction * S * S) true pixels, at least one.
    """
    plane = torch.from_numpy(np.ascontiguousarray(saliency, dtype=np.float32))[None, None]  # (1, 1, h, w)
    fine = F.interpolate(plane, (side, side), mode="bilinear", align_corners=False)
    radius = side // (2 * min(saliency.shape))
    grown = F.max_pool2d(fine, 2 * radius + 1, stride=1, padding=radius)
    count = top_count(fraction * side * side)
    order = np.lexsort((-fine.numpy().ravel(), -grown.numpy().ravel()))  # stable: ties keep their positions
    mask = np.zeros(side * side, dtype=np.bool_)
    mask[order[:count]] = True
    return mask.reshape(side, side)


def attention_saliency(attention: NDArray[np.floating]) -> NDArray[np.float32]:
    """(heads, h, w) attention of the class token -> (h, w) mean over heads, scaled to [0, 1]."""
    return _scale_to_one(attention.astype(np.float32).mean(axis=0))


def _scale_to_one(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale to [0, 1]; a flat plane becomes zeros."""
    low, high = float(plane.min()), float(plane.max())
    return (plane - low) / (high - low) if high > low else np.zeros_like(plane)


def rarity(tokens: NDArray[np.floating], search: Search, owner: int) -> NDArray[np.float32]:
    """(h, w, C) tokens of one image -> (h, w) mean distance to the nearest features, scaled to [0, 1].

    Args:
        owner: index of the image, if its tokens are in the memory: they are left out of the search.
    """
    height, width, channels = tokens.shape
    return _scale_to_one(search.distances(tokens.reshape(-1, channels), owner).reshape(height, width))


def random_blocks(side: int, fraction: float, generator: np.random.Generator) -> NDArray[np.bool_]:
    """A mask of random blocks for training, with exactly the area of a mask from `mask_of`.

    The blocks are cells of a randomly shifted grid with 4 to 16 cells per side; the last block may be cut off.

    Returns:
        (S, S) bool.
    """
    cells = int(generator.integers(4, 17))
    cell = -(-side // cells)
    rank = generator.random((cells + 1, cells + 1)).repeat(cell, 0).repeat(cell, 1)
    top, left = generator.integers(0, cell, 2)
    order = np.argsort(-rank[top : top + side, left : left + side].ravel(), kind="stable")
    mask = np.zeros(side * side, dtype=np.bool_)
    mask[order[: top_count(fraction * side * side)]] = True
    return mask.reshape(side, side)
