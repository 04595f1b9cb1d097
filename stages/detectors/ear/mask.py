"""Where to cut: saliency of an image's patches, and the one mask that follows from it, without any randomness.

Two sources of saliency: the class token's attention (the paper), and rarity, the distance of a patch's feature to its
nearest neighbours among the features of normal images (patch memory: Roth et al., PatchCore, CVPR 2022, here drawn at
random instead of by greedy coreset: a tenth of the cost, and the mask asks for the highest patches of an image only).

Legend: h, w patch grid; P = h * w patches; C channels; M features in memory; S image side in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from stages.types import Rows, batches

READ = 32
"""Images read at a time."""
CHUNK = 16_384
"""Memory rows compared at a time: bounds the distance matrix to P x CHUNK."""
NOBODY = -1
"""The owner of no feature: an image that is not among the training images."""


def mask_of(saliency: NDArray[np.float32], side: int, fraction: float) -> NDArray[np.bool_]:
    """The most salient `fraction` of the pixels, grown by half a patch.

    The saliency is brought to (S, S) bilinearly. Growing a thresholded map by a square is the same as thresholding the
    map's maxima over that square, so the threshold is taken after the growth: every mask has the same area, which makes
    kinds of saliency comparable. Equal maxima are ordered by the saliency itself, then by position.

    Args:
        saliency: (h, w), any range.

    Returns:
        (S, S) bool with round(fraction * S * S) true pixels, at least one.
    """
    plane = torch.from_numpy(np.ascontiguousarray(saliency, dtype=np.float32))[None, None]  # (1, 1, h, w)
    fine = F.interpolate(plane, (side, side), mode="bilinear", align_corners=False)
    radius = side // (2 * min(saliency.shape))
    grown = F.max_pool2d(fine, 2 * radius + 1, stride=1, padding=radius)
    count = max(1, round(fraction * side * side))
    order = np.lexsort((-fine.numpy().ravel(), -grown.numpy().ravel()))  # stable: the last resort is the position
    mask = np.zeros(side * side, dtype=np.bool_)
    mask[order[:count]] = True
    return mask.reshape(side, side)


def attention_saliency(attention: NDArray[np.floating]) -> NDArray[np.float32]:
    """(heads, h, w) attention of the class token -> (h, w) mean over heads, scaled to [0, 1]."""
    return scaled(attention.astype(np.float32).mean(axis=0))


def scaled(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """To [0, 1]; a flat plane becomes zeros."""
    low, high = float(plane.min()), float(plane.max())
    return (plane - low) / (high - low) if high > low else np.zeros_like(plane)


@dataclass(frozen=True)
class Memory:
    """Patch features of normal images."""

    features: NDArray[np.float16]
    """(M, C) as the backbone gave them."""
    owners: NDArray[np.int32]
    """(M,) index of the training image that a feature comes from."""
    centre: NDArray[np.float32]
    """(C,) mean over the memory."""
    spread: NDArray[np.float32]
    """(C,) standard deviation over the memory: distances are taken in channels of equal spread."""

    @classmethod
    def drawn(cls, tokens: Rows, size: int, seed: int) -> Memory:
        """`size` of all patches of (N, h, w, C) tokens, each equally likely, or all if there are fewer."""
        count, height, width, channels = tokens.shape
        patches = height * width
        generator = np.random.default_rng([seed, 0x6D656D])
        chosen = np.sort(generator.choice(count * patches, min(size, count * patches), replace=False))
        owners, inside = np.divmod(chosen, patches)
        features = np.empty((len(chosen), channels), dtype=np.float16)
        for rows in batches(count, READ):
            here = (owners >= rows.start) & (owners < rows.stop)
            block = tokens[rows].reshape(-1, patches, channels)  # (n, h, w, C) -> (n, P, C)
            features[here] = block[owners[here] - rows.start, inside[here]]
        values = features.astype(np.float32)
        return cls(features, owners.astype(np.int32), values.mean(0), values.std(0))


class RaritySearch:
    """Exact nearest-neighbour search in a memory, a bounded number of rows at a time."""

    def __init__(self, memory: Memory, neighbours: int, device: str = "cpu") -> None:
        self._neighbours = neighbours
        self._centre = torch.from_numpy(memory.centre).to(device)
        # A constant channel says nothing: with spread 1 its difference is 0 among normal images.
        self._spread = torch.from_numpy(np.where(memory.spread > 0, memory.spread, 1).astype(np.float32)).to(device)
        self._memory = self._normalised(memory.features)  # (M, C)
        self._owners = torch.from_numpy(memory.owners).to(device)

    def saliency(self, tokens: NDArray[np.floating], owner: int = NOBODY) -> NDArray[np.float32]:
        """(h, w, C) tokens of one image -> (h, w) mean distance to the nearest features, scaled to [0, 1].

        Args:
            owner: the training image that this is: its own features are left out, or it would find itself.
        """
        height, width, channels = tokens.shape
        queries = self._normalised(tokens.reshape(-1, channels))  # (h, w, C) -> (P, C)
        nearest = torch.full((len(queries), self._neighbours), torch.inf, device=queries.device)
        for rows in batches(len(self._memory), CHUNK):
            distance = _squared_distance(queries, self._memory[rows])  # (P, m)
            distance[:, self._owners[rows] == owner] = torch.inf
            both = torch.cat([nearest, distance], dim=1)
            nearest = both.topk(self._neighbours, dim=1, largest=False).values
        found = torch.isfinite(nearest)
        total = torch.where(found, nearest, 0.0).sqrt().sum(1)
        mean = total / found.sum(1).clamp(min=1)  # all zero for the only training image: it has no neighbours
        return scaled(mean.reshape(height, width).cpu().numpy())

    def _normalised(self, features: NDArray[np.floating]) -> Tensor:
        values = torch.from_numpy(np.ascontiguousarray(features)).to(self._centre.device, torch.float32)
        return (values - self._centre) / self._spread


def _squared_distance(a: Tensor, b: Tensor) -> Tensor:
    """(P, C), (m, C) -> (P, m)."""
    product = torch.addmm(b.square().sum(1)[None], a, b.T, alpha=-2)
    return (product + a.square().sum(1)[:, None]).clamp_(min=0)


def random_blocks(side: int, fraction: float, generator: np.random.Generator) -> NDArray[np.bool_]:
    """A mask of random blocks for training, of exactly the area that `mask_of` gives.

    The blocks lie on a grid of 4 to 16 cells a side, shifted at random; the last block may be cut off.

    Returns:
        (S, S) bool.
    """
    cells = int(generator.integers(4, 17))
    cell = -(-side // cells)
    rank = generator.random((cells + 1, cells + 1)).repeat(cell, 0).repeat(cell, 1)
    top, left = generator.integers(0, cell, 2)
    order = np.argsort(-rank[top : top + side, left : left + side].ravel(), kind="stable")
    mask = np.zeros(side * side, dtype=np.bool_)
    mask[order[: max(1, round(fraction * side * side))]] = True
    return mask.reshape(side, side)
