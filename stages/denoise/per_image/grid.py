"""The content field as a bilinear grid of nodes: interpolation and bending energy.

Legend: a grid of ny x nx nodes, N = ny * nx, spans [0, 1]^2 including the borders; node (i, j) has number i * nx + j; M
tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Nodes = tuple[int, int]
"""(ny, nx)."""


def node_grid(grid: tuple[int, int], nodes_per_patch: int) -> Nodes:
    """Nodes for a patch grid: r per patch, and the border's."""
    return grid[0] * nodes_per_patch + 1, grid[1] * nodes_per_patch + 1


def corners(coords: NDArray[np.float64], nodes: Nodes) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Numbers and bilinear weights, (M, 4) each, of the four nodes around each of the coordinates (M, 2)."""
    scaled = coords * (np.array(nodes) - 1)
    cell = np.clip(np.floor(scaled).astype(np.int64), 0, np.array(nodes) - 2)
    down, right = (scaled - cell).T
    first = cell[:, 0] * nodes[1] + cell[:, 1]
    index = np.stack([first, first + 1, first + nodes[1], first + nodes[1] + 1], axis=1)
    weight = np.stack([(1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right], axis=1)
    return index, weight


def sparse_rows(index: NDArray[np.int64], weight: NDArray[np.floating], count: int) -> sparse.csr_array:
    """(M, count) matrix with the weights (M, k) at the columns (M, k) of each row."""
    starts = np.arange(len(index) + 1) * index.shape[1]
    return sparse.csr_array((weight.ravel(), index.ravel(), starts), shape=(len(index), count))


def bending_energy(nodes: Nodes) -> sparse.coo_array:
    """L (N, N): f^T L f = sum of fyy^2 + 2 fxy^2 + fxx^2, in differences between neighbouring nodes (spacing 1).

    Planes have no energy. L couples nodes at most two rows apart.
    """
    first = [sparse.diags_array([-1.0, 1.0], offsets=[0, 1], shape=(n - 1, n)) for n in nodes]
    second = [sparse.diags_array([1.0, -2.0, 1.0], offsets=[0, 1, 2], shape=(n - 2, n)) for n in nodes]
    eye = [sparse.eye_array(n) for n in nodes]
    yy, xx = sparse.kron(second[0], eye[1]), sparse.kron(eye[0], second[1])
    yx = sparse.kron(first[0], first[1])
    return (yy.T @ yy + 2 * (yx.T @ yx) + xx.T @ xx).tocoo()


@dataclass(frozen=True)
class BilinearField:
    """A content field given by its values at the nodes."""

    values: NDArray[np.float32]
    """(ny, nx, C)."""

    def __call__(self, coords: NDArray[np.float64]) -> NDArray[np.float32]:
        """Values (..., C) at coordinates (..., 2) in [0, 1]^2."""
        ny, nx, channels = self.values.shape
        index, weight = corners(coords.reshape(-1, 2), (ny, nx))  # (..., 2) -> (M, 2)
        matrix = sparse_rows(index, weight.astype(self.values.dtype), ny * nx)
        return (matrix @ self.values.reshape(-1, channels)).reshape(*coords.shape[:-1], channels)
