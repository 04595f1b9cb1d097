"""A memory of patch features of good images, and exact search for the nearest, a bounded number of rows at a time.

Source: Roth et al., "PatchCore", CVPR 2022, sections 3.1 (memory) and 3.2 (greedy coreset).

Legend: P features of one image; M features in memory; C channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.detectors.shared.named_arrays import arrays_below
from stages.types import batches

CHUNK = 16_384
"""Memory rows compared at a time. Bounds the distance matrix to P x CHUNK."""
KEPT = 16
"""A memory of up to this many chunks is kept in single precision; chunks of a larger one are converted each time."""
CHANNELS = 16
"""Channels converted to single precision at a time."""
NO_OWNER = -1
"""Owner index of an image that is not among the images of the memory."""
PROJECTED = 64
"""Largest number of dimensions in which the coreset is chosen. Features with more channels are projected at random (the
paper, section 3.2)."""


@dataclass(frozen=True)
class Memory:
    """Patch features of good images."""

    features: NDArray[np.float16]
    """(M, C), not standardised."""
    owners: NDArray[np.int32]
    """(M,) index of the image that each feature comes from."""
    centre: NDArray[np.float32]
    """(C,) mean over the memory."""
    spread: NDArray[np.float32]
    """(C,) standard deviation over the memory. Distances are computed in channels divided by it."""

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], prefix: str) -> Memory:
        """The memory that `to_arrays` saved with this prefix."""
        return cls(**arrays_below(arrays, prefix))

    def to_arrays(self, prefix: str) -> dict[str, NDArray[Any]]:
        """The memory as arrays of a fitted model, whose names start with `prefix`."""
        return {prefix + name: value for name, value in vars(self).items()}


def sample_memory(blocks: Iterable[NDArray[np.floating]], count: int, patches: int, size: int, seed: int) -> Memory:
    """Sample `size` of all patches, each equally likely, or take all if there are fewer.

    Args:
        blocks: (B, h, w, C) features of `count` images in order, `patches` = h * w for each image.
    """
    generator = np.random.default_rng([seed, 0x6D656D])
    chosen = np.sort(generator.choice(count * patches, min(size, count * patches), replace=False))
    owners, inside = np.divmod(chosen, patches)
    features, start = np.empty((0, 0), np.float16), 0
    for block in blocks:
        if not len(features):
            features = np.empty((len(chosen), block.shape[-1]), np.float16)
        in_block = (owners >= start) & (owners < start + len(block))
        flat = block.reshape(len(block), patches, -1)  # (B, h, w, C) -> (B, P, C)
        features[in_block] = flat[owners[in_block] - start, inside[in_block]]
        start += len(block)
    return Memory(features, owners.astype(np.int32), *_mean_and_spread(features))


def _mean_and_spread(features: NDArray[np.float16]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(C,) each, of (M, C). Computed for a few channels at a time: in single precision a large memory takes twice its
    space, and the differences from the mean take as much again."""
    channels = features.shape[1]
    mean, spread = np.empty(channels, np.float32), np.empty(channels, np.float32)
    for part in batches(channels, CHANNELS):
        values = features[:, part].astype(np.float32, order="C")
        mean[part], spread[part] = values.mean(0), values.std(0)
    return mean, spread


def coreset(memory: Memory, size: int, seed: int, device: str = "cpu") -> Memory:
    """Choose `size` features greedily: the first at random, each next the farthest from all chosen before.

    Cost: M * size distances in at most `PROJECTED` dimensions. Centre and spread remain those of the whole memory.
    """
    count, channels = memory.features.shape
    if count <= size:
        return memory
    generator = np.random.default_rng([seed, 0x636F7265])
    values = (memory.features.astype(np.float32) - memory.centre) / channel_divisor(memory.spread)
    if channels > PROJECTED:
        values = values @ generator.standard_normal((channels, PROJECTED), np.float32)
    points = torch.from_numpy(values).to(device)  # (M, d)
    squares = points.square().sum(1)
    nearest = torch.full((count,), torch.inf, device=device)
    chosen = torch.empty(size, dtype=torch.int64)
    chosen[0] = int(generator.integers(count))
    for i in range(size):
        latest = int(chosen[i])
        nearest = torch.minimum(nearest, squares - 2 * (points @ points[latest]) + squares[latest])
        nearest[latest] = -torch.inf
        if i + 1 < size:
            chosen[i + 1] = int(nearest.argmax())
    rows = np.sort(chosen.numpy())
    return Memory(memory.features[rows], memory.owners[rows], memory.centre, memory.spread)


class Search:
    """Exact distances to the nearest features of a memory. They do not depend on `CHUNK`."""

    def __init__(self, memory: Memory, neighbours: int, device: str = "cpu") -> None:
        self._neighbours, self._device = neighbours, device
        self._centre = torch.from_numpy(memory.centre).to(device)
        self._spread = torch.from_numpy(channel_divisor(memory.spread)).to(device)
        self._owners = torch.from_numpy(memory.owners).to(device)
        self._features = memory.features  # (M, C)
        self._chunks = list(batches(len(memory.features), CHUNK))
        self._kept = [self._normalised(memory.features[rows]) for rows in self._chunks[:KEPT]]
        if len(self._chunks) > KEPT:
            self._kept = []

    def distances(self, features: NDArray[np.floating], owner: int = NO_OWNER) -> NDArray[np.float32]:
        """(P, C) features of one image -> (P,) mean distance to the nearest `neighbours` features.

        The distance is 0 if the memory has no features of other images.

        Args:
            owner: index of the image, if its features are in the memory: they are left out of the search.
        """
        queries = self._normalised(features)
        nearest = torch.full((len(queries), self._neighbours), torch.inf, device=queries.device)
        for i, rows in enumerate(self._chunks):
            part = self._kept[i] if self._kept else self._normalised(self._features[rows])
            distance = _squared_distance(queries, part)  # (P, m)
            if owner != NO_OWNER:
                distance[:, self._owners[rows] == owner] = torch.inf
            both = torch.cat([nearest, distance], dim=1)
            nearest = both.topk(self._neighbours, dim=1, largest=False).values
        exists = torch.isfinite(nearest)
        total = torch.where(exists, nearest, 0.0).sqrt().sum(1)
        mean = total / exists.sum(1).clamp(min=1)  # 0 / 1 for the only training image, which has no neighbours
        values: NDArray[np.float32] = mean.cpu().numpy()
        return values

    def _normalised(self, features: NDArray[np.floating]) -> Tensor:
        values = torch.from_numpy(np.ascontiguousarray(features)).to(self._device, torch.float32)
        return (values - self._centre) / self._spread


def channel_divisor(spread: NDArray[np.float32]) -> NDArray[np.float32]:
    """(C,) spread, and 1 for a constant channel, whose differences among good images are then 0."""
    return np.where(spread > 0, spread, 1).astype(np.float32)


def _squared_distance(a: Tensor, b: Tensor) -> Tensor:
    """(P, C), (m, C) -> (P, m)."""
    product = torch.addmm(b.square().sum(1)[None], a, b.T, alpha=-2)
    return (product + a.square().sum(1)[:, None]).clamp_(min=0)
