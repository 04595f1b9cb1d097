"""The least-squares problem of one image as arrays: which nodes each token sees, and sums over the tokens.

Legend: V views, h x w grid, P = h * w positions, M = V * P tokens, C channels, N nodes, N' = T * m padded nodes (see
`banded`). The equations are in `least_squares`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.denoise.per_image.banded import Layout
from stages.denoise.per_image.decomposition import Floats
from stages.denoise.per_image.grid import Nodes, bending_energy, corners, sparse_rows
from stages.denoise.per_image.normal_equations import Array, Sums

CHUNK = 8192
"""Tokens that are processed at once, so that no copy of all tokens is made."""


@dataclass(frozen=True)
class Problem:
    """The tokens of one image and all that does not depend on their weights."""

    tokens: Floats
    """(V, h, w, C) float32 or float64; also the precision of the sums over tokens."""
    nodes: Nodes
    index: NDArray[np.int64]
    """(V, P, 5): for each token the four nodes around it, and N' + its position."""
    weight: NDArray[np.float64]
    """(V, P, 5) their weights in y = F + G: bilinear, and 1."""
    places: NDArray[np.int64]
    """(V, P, 16) flat indices in the band of the products of two node weights."""
    bending: NDArray[np.float64]
    """(2, T, m, m) L, with a unit diagonal in the padding."""
    layout: Layout

    @classmethod
    def from_tokens(cls, tokens: Floats, coords: NDArray[np.float64], grid: tuple[int, int], nodes: Nodes) -> Problem:
        """Tokens (V, h, w, C) at coordinates (V, h, w, 2)."""
        layout, energy = Layout.for_nodes(nodes), bending_energy(nodes)
        index, weight = corners(coords.reshape(-1, 2), nodes)  # (V, h, w, 2) -> (M, 2)
        places = layout.places(index[:, :, None], index[:, None, :])  # (M, 4, 4)
        bending = layout.assemble(layout.places(energy.row, energy.col), energy.data)
        layout.pad_diagonal(bending)
        positions = grid[0] * grid[1]
        own = np.tile(layout.padded + np.arange(positions), len(tokens))
        return cls(
            tokens=tokens,
            nodes=nodes,
            index=np.column_stack([index, own]).reshape(-1, positions, 5),
            weight=np.column_stack([weight, np.ones(len(weight))]).reshape(-1, positions, 5),
            places=places.reshape(-1, positions, 16),
            bending=bending,
            layout=layout,
        )

    def on(self, views: slice, tokens: Floats) -> Problem:
        """The same problem for some of the views, with the given tokens of these views."""
        index, weight, places = self.index[views], self.weight[views], self.places[views]
        return Problem(tokens, self.nodes, index, weight, places, self.bending, self.layout)

    def sums(self, weights: NDArray[np.float64]) -> Sums:
        """Sums over the tokens for the normal equations, with weights (V, h, w)."""
        positions, count = self.index.shape[1], self.layout.padded
        flat = weights.reshape(-1, positions, 1)
        bilinear = self.weight[..., :4]
        products = bilinear[..., :, None] * bilinear[..., None, :]
        pairs = products.reshape(-1, positions, 16)  # (V, P, 4, 4) -> (V, P, 16)
        mixed = self.index[..., :4] * positions + np.arange(positions)[:, None]  # entry (node, position) of B
        coupling = np.bincount(mixed.ravel(), (bilinear * flat).ravel(), minlength=count * positions).astype(
            np.float64, copy=False
        )
        right = np.zeros((count + positions, self.tokens.shape[-1]))
        for tokens, index, weight in self._chunks(self.weight * flat):
            right += sparse_rows(index, weight.astype(tokens.dtype), len(right)).T @ tokens
        return Sums(
            layout=self.layout,
            band=self.layout.assemble(self.places, pairs * flat),
            coupling=self.layout.blocked(coupling.reshape(count, positions)),
            seen=flat.sum((0, 2)),
            content=self.layout.blocked(right[:count]),
            artifact=right[count:],
        )

    def residual(self, field: Array, artifact: Array) -> NDArray[np.float64]:
        """(V, h, w) norms of y - S F - G."""
        padding = np.zeros((self.layout.padded - len(field), field.shape[1]))
        fields = np.concatenate([field, padding, artifact]).astype(self.tokens.dtype)
        norms = []
        for tokens, index, weight in self._chunks(self.weight):
            rest = tokens - sparse_rows(index, weight.astype(tokens.dtype), len(fields)) @ fields
            norms.append(np.sqrt(np.einsum("mc,mc->m", rest, rest)))
        return np.concatenate(norms).reshape(self.tokens.shape[:3]).astype(np.float64)

    def _chunks(self, weight: NDArray[np.float64]) -> Iterator[tuple[Floats, NDArray[np.int64], NDArray[np.float64]]]:
        """Tokens (m, C), their indices (m, 5) and weights (m, 5), a few views at a time."""
        views, positions, _ = self.index.shape
        step = max(1, CHUNK // positions)
        for start in range(0, views, step):
            chunk = slice(start, start + step)
            tokens = self.tokens[chunk].reshape(-1, self.tokens.shape[-1])  # (v, h, w, C) -> (m, C)
            yield tokens, self.index[chunk].reshape(-1, 5), weight[chunk].reshape(-1, 5)
