"""A memory of patch features of normal images, and exact search in it a bounded number of rows at a time.

Source: Roth et al., "PatchCore", CVPR 2022, sections 3.1 (memory) and 3.2 (greedy coreset).

Legend: P features of one image; M features in memory; C channels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.types import batches

CHUNK = 16_384
"""Memory rows compared at a time: bounds the distance matrix to P x CHUNK."""
KEPT = 16
"""Up to so many chunks are kept in single precision; of a larger memory each is converted anew."""
CHANNELS = 16
"""Channels in single precision at a time."""
NOBODY = -1
"""The owner of no feature: an image that is not among the training images."""
PROJECTED = 64
"""Most dimensions in which the coreset is chosen; features of more are projected at random (the paper, section 3.2)."""


@dataclass(frozen=True)
class Memory:
    """Patch features of normal images."""

    features: NDArray[np.float16]
    """(M, C) as they came."""
    owners: NDArray[np.int32]
    """(M,) index of the image that a feature comes from, in the order in which they came."""
    centre: NDArray[np.float32]
    """(C,) mean over the memory."""
    spread: NDArray[np.float32]
    """(C,) standard deviation over the memory: distances are taken in channels of equal spread."""


def drawn(blocks: Iterable[NDArray[np.floating]], count: int, patches: int, size: int, seed: int) -> Memory:
    """`size` of all patches, each equally likely, or all if there are fewer.

    Args:
        blocks: (B, h, w, C) features of `count` images in order, `patches` = h * w of each.
    """
    generator = np.random.default_rng([seed, 0x6D656D])
    chosen = np.sort(generator.choice(count * patches, min(size, count * patches), replace=False))
    owners, inside = np.divmod(chosen, patches)
    features, start = np.empty((0, 0), np.float16), 0
    for block in blocks:
        if not len(features):
            features = np.empty((len(chosen), block.shape[-1]), np.float16)
        here = (owners >= start) & (owners < start + len(block))
        flat = block.reshape(len(block), patches, -1)  # (B, h, w, C) -> (B, P, C)
        features[here] = flat[owners[here] - start, inside[here]]
        start += len(block)
    return Memory(features, owners.astype(np.int32), *_mean_and_spread(features))


def _mean_and_spread(features: NDArray[np.float16]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(C,) each of (M, C); some channels at a time, since all of a large memory take twice its room in single
    precision, and their differences from the mean as much again."""
    channels = features.shape[1]
    mean, spread = np.empty(channels, np.float32), np.empty(channels, np.float32)
    for part in batches(channels, CHANNELS):
        values = features[:, part].astype(np.float32, order="C")
        mean[part], spread[part] = values.mean(0), values.std(0)
    return mean, spread


def coreset(memory: Memory, size: int, seed: int, device: str = "cpu") -> Memory:
    """The `size` features chosen greedily, each the farthest from those chosen before; the first is drawn.

    Cost: M * size distances in at most `PROJECTED` dimensions. Centre and spread stay those of the whole memory.
    """
    count, channels = memory.features.shape
    if count <= size:
        return memory
    generator = np.random.default_rng([seed, 0x636F7265])
    values = (memory.features.astype(np.float32) - memory.centre) / _divisor(memory.spread)
    if channels > PROJECTED:
        values = values @ generator.standard_normal((channels, PROJECTED), np.float32)
    points = torch.from_numpy(values).to(device)  # (M, d)
    squares = points.square().sum(1)
    nearest = torch.full((count,), torch.inf, device=device)
    chosen = torch.empty(size, dtype=torch.int64)
    chosen[0] = int(generator.integers(count))
    for i in range(size):
        one = int(chosen[i])
        nearest = torch.minimum(nearest, squares - 2 * (points @ points[one]) + squares[one])
        nearest[one] = -torch.inf
        if i + 1 < size:
            chosen[i + 1] = int(nearest.argmax())
    rows = np.sort(chosen.numpy())
    return Memory(memory.features[rows], memory.owners[rows], memory.centre, memory.spread)


class Search:
    """Distances to the nearest features of a memory: exact, whatever the chunks."""

    def __init__(self, memory: Memory, neighbours: int, device: str = "cpu") -> None:
        self._neighbours, self._device = neighbours, device
        self._centre = torch.from_numpy(memory.centre).to(device)
        # A constant channel says nothing: with spread 1 its difference is 0 among normal images.
        self._spread = torch.from_numpy(_divisor(memory.spread)).to(device)
        self._owners = torch.from_numpy(memory.owners).to(device)
        self._features = memory.features  # (M, C)
        self._chunks = list(batches(len(memory.features), CHUNK))
        self._kept = [self._normalised(memory.features[rows]) for rows in self._chunks[:KEPT]]
        if len(self._chunks) > KEPT:
            self._kept = []

    def distances(self, features: NDArray[np.floating], owner: int = NOBODY) -> NDArray[np.float32]:
        """(P, C) features of one image -> (P,) mean distance to the nearest `neighbours`; 0 if there are none.

        Args:
            owner: the training image that this is: its own features are left out, or it would find itself.
        """
        queries = self._normalised(features)
        nearest = torch.full((len(queries), self._neighbours), torch.inf, device=queries.device)
        for i, rows in enumerate(self._chunks):
            part = self._kept[i] if self._kept else self._normalised(self._features[rows])
            distance = _squared_distance(queries, part)  # (P, m)
            if owner != NOBODY:
                distance[:, self._owners[rows] == owner] = torch.inf
            both = torch.cat([nearest, distance], dim=1)
            nearest = both.topk(self._neighbours, dim=1, largest=False).values
        found = torch.isfinite(nearest)
        total = torch.where(found, nearest, 0.0).sqrt().sum(1)
        mean = total / found.sum(1).clamp(min=1)  # all zero for the only training image: it has no neighbours
        values: NDArray[np.float32] = mean.cpu().numpy()
        return values

    def _normalised(self, features: NDArray[np.floating]) -> Tensor:
        values = torch.from_numpy(np.ascontiguousarray(features)).to(self._device, torch.float32)
        return (values - self._centre) / self._spread


def _divisor(spread: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.where(spread > 0, spread, 1).astype(np.float32)


def _squared_distance(a: Tensor, b: Tensor) -> Tensor:
    """(P, C), (m, C) -> (P, m)."""
    product = torch.addmm(b.square().sum(1)[None], a, b.T, alpha=-2)
    return (product + a.square().sum(1)[:, None]).clamp_(min=0)
