"""The networks of `neural_field`: a multi-resolution grid with an MLP for F, an MLP for the residual term.

Legend: M coordinates; L levels; R rows of the table, for all levels together; f features per level; C channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.denoise.config import NeuralFieldConfig
from stages.denoise.per_image.grid import Nodes, corners
from stages.torch_setup import one_thread
from stages.types import batches

PRIMES = np.array([1, 2654435761], np.uint64)
"""Constants of the spatial hash (Müller et al., "Instant Neural Graphics Primitives", 2022, section 3, equation 4)."""
TABLE_SPREAD = 1e-4
"""The table starts uniform within this distance of 0 (the same paper, section 4)."""
CHUNK = 16384
"""Coordinates that are evaluated at once."""


@dataclass(frozen=True)
class Levels:
    """Where each level of the grid stores its nodes in one table."""

    nodes: tuple[Nodes, ...]
    """Node grid of each level, coarse to fine."""
    table: int
    """Largest number of rows per level; a level with more nodes is hashed into this many rows."""

    @classmethod
    def for_grid(cls, grid: tuple[int, int], config: NeuralFieldConfig) -> Levels:
        """Cells per patch grow by a constant factor from level to level, from `coarsest` to `finest`; a single level
        has the finest."""
        shares = np.linspace(0, 1, config.levels) if config.levels > 1 else np.ones(1)
        cells = config.coarsest * (config.finest / config.coarsest) ** shares  # a patch
        nodes = tuple((max(1, round(c * grid[0])) + 1, max(1, round(c * grid[1])) + 1) for c in cells)
        return cls(nodes, 2**config.table_log2)

    def rows(self) -> list[int]:
        """Number of rows of each level."""
        return [min(ny * nx, self.table) for ny, nx in self.nodes]

    def corners(self, coords: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Rows of the table and bilinear weights, (M, L, 4) each, for coordinates (M, 2)."""
        index = np.empty((len(coords), len(self.nodes), 4), np.int64)
        weight = np.empty(index.shape, np.float32)
        start = 0
        for level, (nodes, rows) in enumerate(zip(self.nodes, self.rows(), strict=True)):
            number, weight[:, level] = corners(coords, nodes)
            index[:, level] = start + (number if rows == nodes[0] * nodes[1] else hashed(number, nodes[1], rows))
            start += rows
        return index, weight


def hashed(number: NDArray[np.int64], columns: int, rows: int) -> NDArray[np.int64]:
    """Rows for node numbers that count along the columns: (row * 1 xor column * prime) mod rows."""
    row, column = (part.astype(np.uint64) for part in np.divmod(number, columns))
    mixed: NDArray[np.uint64] = (row * PRIMES[0]) ^ (column * PRIMES[1])
    return (mixed % np.uint64(rows)).astype(np.int64)


class FieldNetwork(nn.Module):
    """F in the units of the network: interpolated features of all levels, one hidden layer, C channels."""

    def __init__(self, levels: Levels, mean: Tensor, config: NeuralFieldConfig) -> None:
        """`mean` (C,) is F's initial value everywhere, except for the random weights."""
        super().__init__()
        channels, features = len(mean), config.level_features
        self.table = nn.Parameter(torch.empty(sum(levels.rows()), features).uniform_(-TABLE_SPREAD, TABLE_SPREAD))
        hidden = share_of(config.hidden, channels)
        last = nn.Linear(hidden, channels)
        with torch.no_grad():
            last.bias.copy_(mean)
        self.mlp = nn.Sequential(nn.Linear(len(levels.nodes) * features, hidden), nn.ReLU(), last)

    def interpolated(self, index: Tensor, weight: Tensor) -> Tensor:
        """(M, L * f) for rows and weights (M, L, 4)."""
        bags = F.embedding_bag(index.flatten(0, 1), self.table, per_sample_weights=weight.flatten(0, 1), mode="sum")
        return bags.view(len(index), -1)  # (M * L, f) -> (M, L * f)

    def forward(self, index: Tensor, weight: Tensor) -> Tensor:
        """(M, C)."""
        values: Tensor = self.mlp(self.interpolated(index, weight))
        return values


def residual_network(channels: int, config: NeuralFieldConfig) -> nn.Sequential:
    """r: (M, C) -> (M, C)."""
    hidden = share_of(config.residual_hidden, channels)
    return nn.Sequential(
        nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, channels)
    )


def share_of(share: float, channels: int) -> int:
    return max(1, round(share * channels))


@dataclass(frozen=True)
class NetworkField:
    """F as a function of NumPy coordinates."""

    network: FieldNetwork
    """On the CPU."""
    levels: Levels
    scale: float
    """Unit of the tokens."""
    constant: NDArray[np.float32]
    """(C,) the mean of G, which was moved to F so that G has mean 0, in the units of the tokens."""

    def __call__(self, coords: NDArray[np.float64]) -> NDArray[np.float32]:
        """Values (..., C) at coordinates (..., 2) in [0, 1]^2."""
        flat = coords.reshape(-1, 2)  # (..., 2) -> (M, 2)
        values = np.empty((len(flat), len(self.constant)), np.float32)
        with torch.inference_mode(), one_thread():
            for part in batches(len(flat), CHUNK):
                index, weight = (torch.from_numpy(array) for array in self.levels.corners(flat[part]))
                values[part] = self.network(index, weight).numpy()
        return (values * np.float32(self.scale) + self.constant).reshape(*coords.shape[:-1], -1)
