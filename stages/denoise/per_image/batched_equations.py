"""The normal equations of several images at once, as in `normal_equations` but dense, in PyTorch. See `batched`.

Legend: B images, V views, h x w grid, P = h * w positions, C channels, ny x nx nodes, N = ny * nx. All arrays are
float64 except the tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.linalg import solve_triangular
from torch.nn.functional import pad

from stages.denoise.per_image.grid import Nodes, bending_energy
from stages.denoise.per_image.views import patch_centres
from stages.types import batches

CHUNK = 2**26
"""Bytes of an image's tokens, spread to the nodes of one axis, that are processed at once."""
Band = Mapping[int, Tensor]
"""Diagonals of symmetric matrices: offset d >= 0 -> (B or 1, N - d) entries (n + d, n)."""


@dataclass(frozen=True)
class Images:
    """The tokens of B images, and the nodes that they see."""

    tokens: Tensor
    """(B, V, h, w, C) float32 or float64."""
    rows: Tensor
    """(B, V, h, ny) weights of the node rows."""
    columns: Tensor
    """(B, V, w, nx) weights of the node columns."""

    def select(self, views: slice) -> Images:
        return Images(self.tokens[:, views], self.rows[:, views], self.columns[:, views])

    def chunks(self) -> Iterator[tuple[slice, Tensor]]:
        """A few views at a time, with their tokens in double precision."""
        _, views, height, width, channels = self.tokens.shape
        bytes_per_view = 8 * height * max(width, self.columns.shape[-1]) * channels
        for views_now in batches(views, max(1, CHUNK // bytes_per_view)):
            yield views_now, self.tokens[:, views_now].double()

    def residual(self, field: Tensor, artifact: Tensor) -> Tensor:
        """(B, V, h, w) norms of y - S F - G, for F (B, N, C) and G (B, P, C)."""
        count, _, height, width, channels = self.tokens.shape
        nodes = field.reshape(count, self.rows.shape[-1], -1, channels)  # (B, N, C) -> (B, ny, nx, C)
        offset = artifact.reshape(count, 1, height, width, channels)  # (B, P, C) -> (B, 1, h, w, C)
        norms = []
        for views, tokens in self.chunks():
            half = torch.einsum("bvhi,bijc->bvhjc", self.rows[:, views], nodes)
            content = torch.einsum("bvwj,bvhjc->bvhwc", self.columns[:, views], half)
            norms.append(torch.linalg.vector_norm(tokens - content - offset, dim=-1))
        return torch.cat(norms, 1)


@dataclass(frozen=True)
class Sums:
    """As `normal_equations.Sums`."""

    band: Band
    """S^T W S."""
    coupling: Tensor
    """(B, N, P)."""
    seen: Tensor
    """(B, P)."""
    content: Tensor
    """(B, N, C)."""
    artifact: Tensor
    """(B, P, C)."""

    @classmethod
    def from_tokens(cls, images: Images, weights: Tensor) -> Sums:
        """With weights (B, V, h, w)."""
        rows, columns = images.rows, images.columns
        count, _, height, width, channels = images.tokens.shape
        ny, nx = rows.shape[-1], columns.shape[-1]
        content, artifact = rows.new_zeros(count, ny, nx, channels), rows.new_zeros(count, height, width, channels)
        for views, tokens in images.chunks():
            weighed = tokens * weights[:, views, ..., None]
            artifact += weighed.sum(1)
            half = torch.einsum("bvwj,bvhwc->bvhjc", columns[:, views], weighed)
            content += torch.einsum("bvhi,bvhjc->bijc", rows[:, views], half)
        coupling = rows.new_empty(count, ny, nx, height, width)
        for p in range(height):  # a row of positions at a time, (B, V, w, nx) at once
            weighed = columns * weights[:, :, p, :, None]
            coupling[:, :, :, p] = torch.einsum("bvi,bvqj->bijq", rows[:, :, p], weighed)
        return cls(
            band=_band(rows, columns, weights),
            coupling=coupling.reshape(count, ny * nx, height * width),
            seen=weights.sum(1).reshape(count, -1),  # (B, h, w) -> (B, P)
            content=content.reshape(count, ny * nx, channels),
            artifact=artifact.reshape(count, height * width, channels),
        )


def _band(rows: Tensor, columns: Tensor, weights: Tensor) -> Band:
    """S^T W S: a token couples a node with itself, with its neighbour in the row, and with three nodes of the next
    row."""
    nx, band = columns.shape[-1], dict[int, Tensor]()
    for down, right in ((0, 0), (0, 1), (1, -1), (1, 0), (1, 1)):
        half = torch.einsum("bvhi,bvhw->bviw", _neighbours(rows, down), weights)
        entries = torch.einsum("bviw,bvwj->bij", half, _neighbours(columns, right)).flatten(1)  # (B, ny, nx) -> (B, N)
        offset = down * nx + right
        entries = entries[:, : entries.shape[1] - offset]  # those beyond are 0
        band[offset] = band[offset] + entries if offset in band else entries  # with nx = 2 two have the same offset
    return band


def _neighbours(weights: Tensor, step: int) -> Tensor:
    """(..., n): the weight of each node times that of the node `step` (-1, 0 or 1) further; 0 beyond the border."""
    shifted = pad(weights[..., :-1], (1, 0)) if step < 0 else pad(weights[..., step:], (0, step))
    return weights * shifted


def bending_of(nodes: Nodes, device: str) -> Band:
    """L."""
    energy = bending_energy(nodes).tocoo()
    offsets = np.unique(abs(energy.row - energy.col))
    return {int(d): torch.from_numpy(energy.diagonal(-int(d))).to(device)[None] for d in offsets}


@dataclass(frozen=True)
class System:
    """As `normal_equations.Reduced`."""

    factor: Tensor
    """(B, N, N)."""
    mixed: Tensor
    """(B, N, P)."""
    partial: Tensor
    """(B, N, C)."""
    schur: Tensor
    """(B, P, P) here without ridge and gauge."""
    right: Tensor
    """(B, P, C)."""
    field: Tensor
    """(B, N, C) F."""
    artifact: Tensor
    """(B, P, C) G."""
    failed: Tensor
    """(B,) bool: the matrix is not positive definite; the other fields are then meaningless, but finite."""

    @classmethod
    def from_sums(cls, sums: Sums, bending: Band, smoothness: Tensor, ridge: float) -> System:
        """Solve with lambda (B,)."""
        factor, failed = _cholesky(_assemble(sums.band, bending, smoothness))
        both = solve_triangular(factor, torch.cat([sums.coupling, sums.content], -1), upper=False)
        mixed, partial = both.split([sums.coupling.shape[-1], sums.content.shape[-1]], -1)
        schur = torch.diag_embed(sums.seen) - mixed.mT @ mixed
        right = sums.artifact - mixed.mT @ partial
        gauge = sums.seen.mean(1) / sums.seen.shape[1]  # see normal_equations
        system = schur + gauge[:, None, None]
        system.diagonal(0, 1, 2).add_(ridge)
        lower, singular = _cholesky(system)
        artifact = torch.cholesky_solve(right, lower)
        field = solve_triangular(factor.mT, partial - mixed @ artifact, upper=True)
        return cls(factor, mixed, partial, schur, right, field, artifact, failed | singular)

    def response(self, grid: tuple[int, int], nodes: Nodes) -> Tensor:
        """(B, P, P) how much F at the patch centres falls when G grows."""
        centres = torch.from_numpy(patch_centres(grid)).to(self.factor.device)
        rows, columns = hats(centres[:, 0, 0], nodes[0]), hats(centres[0, :, 1], nodes[1])
        pull = solve_triangular(self.factor.mT, self.mixed, upper=True)
        half = torch.einsum("pi,bijk->bpjk", rows, pull.reshape(len(pull), *nodes, -1))  # (B, N, P) -> (B, ny, nx, P)
        return torch.einsum("qj,bpjk->bpqk", columns, half).flatten(1, 2)  # (B, h, w, P) -> (B, P, P)


def _assemble(band: Band, bending: Band, smoothness: Tensor) -> Tensor:
    """(B, N, N) A = S^T W S + lambda L."""
    count, size = band[0].shape
    matrix = band[0].new_zeros(count, size, size)
    for offset in band.keys() | bending.keys():
        entries = smoothness[:, None] * bending[offset] if offset in bending else torch.zeros_like(band[offset])
        if offset in band:
            entries = entries + band[offset]
        for side in {-offset, offset}:
            matrix.diagonal(side, 1, 2).copy_(entries)
    return matrix


def _cholesky(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Lower factors (B, n, n), and which of the matrices have none (B,); for these the factor is the unit matrix."""
    lower, info = torch.linalg.cholesky_ex(matrix)
    failed = info != 0
    lower.masked_fill_(failed[:, None, None], 0.0)
    lower.diagonal(0, 1, 2).masked_fill_(failed[:, None], 1.0)
    return lower, failed


def hats(values: Tensor, nodes: int) -> Tensor:
    """(..., n) weights of the nodes of one axis in linear interpolation at coordinates (...) in [0, 1]."""
    numbers = torch.arange(nodes, dtype=torch.float64, device=values.device)
    return (1 - (values[..., None] * (nodes - 1) - numbers).abs()).clamp(min=0)
