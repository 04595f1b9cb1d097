"""The least-squares fit of several images at once, by batched dense Cholesky: for a GPU, where it is one queue of large
matrix products. The objective, passes, choice of lambda and diagnostics are those of `least_squares`, which see.

Views are axis-aligned crops, so the interpolation of view v is a product of a row and a column matrix (Kronecker),
S_v = R_v (x) C_v, and each sum over tokens is a batched product: nothing is scattered or added atomically, so a device
repeats its bytes.
Differences to `least_squares`: A is factored as a dense matrix (N^3 / 3 operations, N^2 memory) in place of by blocks;
sums and residuals are in double precision whatever the tokens; lambda's candidates are solved directly in place of
iteratively, so their R^2 differ by up to 1e-3. Results agree within 1e-5 (a test) where the same lambda is chosen.

Legend: B images, V views, h x w grid, P = h * w positions, C channels, ny x nx nodes, N = ny * nx.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.denoise.config import DenoiseConfig
from stages.denoise.per_image.batched_equations import CHUNK, Band, Images, Sums, System, bending_of, hats
from stages.denoise.per_image.decomposition import Decomposition, Floats, Terms, check_tokens
from stages.denoise.per_image.grid import BilinearField, node_grid
from stages.denoise.per_image.least_squares import held_views, too_few_views
from stages.denoise.per_image.smoothness import mixtures
from stages.types import UserError, batches

MEMORY = 4 * 2**30
"""Bytes that a group of images may take on the device, about; a group has at least one image."""


def solve_together(
    tokens: Floats,
    coords: NDArray[np.float64],
    grid: tuple[int, int],
    config: DenoiseConfig,
    names: Sequence[str],
    device: str,
    memory_bytes: int = MEMORY,
) -> list[Decomposition | UserError]:
    """Split the tokens (B, V, h, w, C), float32 or float64, of B images, seen at coords (B, V, h, w, 2) in [0, 1]^2.

    Each image's result is that of `least_squares.solve`, or the UserError that it raises; beyond rounding it does not
    depend on the images beside it. `device`: of PyTorch, `cuda` or `cpu`. `memory_bytes` decides how many images
    are in work at once.

    Raises:
        ValueError: shapes that do not belong together, or coordinates that are not a lattice of rows and columns.
    """
    if tokens.ndim != 5 or len(names) != len(tokens) or coords.shape[:1] != tokens.shape[:1]:
        raise ValueError(f"tokens {tokens.shape}, coordinates {coords.shape} and {len(names)} names do not fit")
    found: dict[int, Decomposition | UserError] = {}
    held = 0
    for number, name in enumerate(names):
        try:
            check_tokens(tokens[number], coords[number], grid, name)
            held = held_views(tokens.shape[1], config, name)
        except UserError as fault:
            found[number] = fault
    rows, columns = _lattice(coords)
    good = [number for number in range(len(names)) if number not in found]
    size = max(1, memory_bytes // _image_bytes(tokens.shape[1:], grid, config, tokens.itemsize))
    for part in batches(len(good), size):
        chosen = good[part]
        group = _Group.of(tokens[chosen], rows[chosen], columns[chosen], grid, config, held, device)
        for number, one in zip(chosen, _solve_group(group, grid), strict=True):
            found[number] = one or too_few_views(tokens.shape[1], grid, config, names[number])
    return [found[number] for number in range(len(names))]


def _lattice(coords: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Row coordinates (B, V, h) and column coordinates (B, V, w)."""
    rows, columns = coords[:, :, :, :1, 0], coords[:, :, :1, :, 1]
    apart = max(np.ptp(coords[..., 0], axis=3).max(initial=0), np.ptp(coords[..., 1], axis=2).max(initial=0))
    if not apart <= 1e-9:
        raise ValueError(f"coordinates are not a lattice: within a row or a column of patches they differ by {apart:g}")
    return rows[..., 0], columns[:, :, 0]


def _image_bytes(shape: Sequence[int], grid: tuple[int, int], config: DenoiseConfig, itemsize: int) -> int:
    """Memory that one image takes: tokens, some matrices A and sums, and chunks of tokens."""
    positions, channels = grid[0] * grid[1], shape[-1]
    count = int(np.prod(node_grid(grid, config.nodes_per_patch)))
    doubles = 3 * count**2 + 3 * count * (positions + channels) + 4 * positions**2
    return int(np.prod(shape)) * itemsize + 8 * doubles + 3 * CHUNK


@dataclass(frozen=True)
class _Group:
    """Images that are in work at once, on the device."""

    images: Images
    first: Images
    """The same with at most `smoothness.MIXTURES` mixtures of the channels."""
    bending: Band
    config: DenoiseConfig
    held: int
    """Views that are held out."""

    @classmethod
    def of(
        cls,
        tokens: Floats,
        rows: NDArray[np.float64],
        columns: NDArray[np.float64],
        grid: tuple[int, int],
        config: DenoiseConfig,
        held: int,
        device: str,
    ) -> _Group:
        nodes = node_grid(grid, config.nodes_per_patch)
        interpolation = [
            hats(torch.from_numpy(places).to(device), count)
            for places, count in zip((rows, columns), nodes, strict=True)
        ]
        images = Images(torch.from_numpy(tokens).to(device), *interpolation)
        mixture = torch.from_numpy(mixtures(np.eye(tokens.shape[-1]))).to(device)  # (C, K)
        mixed = torch.cat([chunk @ mixture for _, chunk in images.chunks()], 1)
        return cls(images, Images(mixed, *interpolation), bending_of(nodes, device), config, held)

    def solve(self, images: Images, weights: Tensor, smoothness: Tensor) -> System:
        """With weights (B, V, h, w) and lambda (B,)."""
        return System.of(Sums.of(images, weights), self.bending, smoothness, self.config.artifact_ridge)

    def scores(self, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `smoothness.held_out_scores`: R^2 (B, candidates), none without held-out views; whether the held-out
        tokens vary (B,); who failed (B,)."""
        count, views = weights.shape[0], weights.shape[1] - self.held
        if not self.held:
            nobody = weights.new_zeros(count, dtype=torch.bool)
            return weights.new_zeros(count, 0), nobody, nobody
        own, other = weights[:, :views], weights[:, views:]
        sums, left = Sums.of(self.first.of(slice(0, views)), own), self.first.of(slice(views, None))
        mean = sums.artifact.sum(1) / own.sum((1, 2, 3))[:, None]  # (B, C)
        apart = left.tokens - mean[:, None, None, None]
        whole = (other[..., None] * apart**2).sum((1, 2, 3, 4))
        varies = whole > 1e-10 * (other[..., None] * left.tokens**2).sum((1, 2, 3, 4))
        scores, failed = [], torch.zeros_like(varies)
        for value in self.config.smoothness:
            system = System.of(sums, self.bending, torch.full_like(whole, value), self.config.artifact_ridge)
            rest = left.residual(system.field, system.artifact)
            scores.append(1 - (other * rest**2).sum((1, 2, 3)) / whole)
            failed = failed | system.failed
        return torch.stack(scores, 1), varies, failed


def _solve_group(group: _Group, grid: tuple[int, int]) -> list[Decomposition | None]:
    """As `least_squares._solve`; None for an image whose matrix is not positive definite."""
    config, images = group.config, group.images
    start = len(config.smoothness) // 2
    weights = group.first.tokens.new_ones(images.tokens.shape[:4])
    values = weights.new_tensor(config.smoothness)
    system = group.solve(group.first, weights, values[start].expand(len(weights)))
    failed, residual = system.failed, group.first.residual(system.field, system.artifact)
    if config.passes > 1:
        weights = _robust_weights(residual, config.robust_constant)
    scores, varies, unfit = group.scores(weights)
    chosen, failed = _best(values, scores, varies, start), failed | unfit
    for step in range(max(1, config.passes - 1)):
        if step:
            weights = _robust_weights(residual, config.robust_constant)
        system = group.solve(images, weights, values[chosen])
        failed, residual = failed | system.failed, images.residual(system.field, system.artifact)
    parts = {
        "field": system.field.float(),
        "artifact": system.artifact.float(),
        "residual": residual.float(),
        "scores": scores,
        "varies": varies,
        "chosen": chosen,
        "outliers": (weights < 0.5).double().mean((1, 2, 3)),
        "failed": failed,
    }
    if config.shared_artifact:
        parts |= {"schur": system.schur.float(), "right": system.right.float()}
        parts |= {"response": system.response(grid, node_grid(grid, config.nodes_per_patch)).float()}
    host = {name: value.cpu().numpy() for name, value in parts.items()}
    each = ({name: value[number] for name, value in host.items()} for number in range(len(failed)))
    return [None if one["failed"] else _decomposition(one, grid, config) for one in each]


def _decomposition(one: dict[str, NDArray[Any]], grid: tuple[int, int], config: DenoiseConfig) -> Decomposition:
    chosen, varies = int(one["chosen"]), bool(one["varies"])
    scores = [float(score) if varies else None for score in one["scores"]]
    return Decomposition(
        F=BilinearField(one["field"].reshape(*node_grid(grid, config.nodes_per_patch), -1)),  # (N, C) -> (ny, nx, C)
        G=one["artifact"].reshape(*grid, -1),  # (P, C) -> (h, w, C)
        residual=one["residual"],
        diagnostics={
            "smoothness": config.smoothness[chosen],
            "held_out_r2": scores[chosen] if scores else None,
            "candidates_r2": scores,
            "outlier_share": float(one["outliers"]),
        },
        terms=Terms(one["schur"], one["right"], one["response"]) if config.shared_artifact else None,
    )


def _best(values: Tensor, scores: Tensor, varies: Tensor, start: int) -> Tensor:
    """(B,) as `smoothness.best`: which candidate has the highest score, the greatest of equals; `start` where nothing
    was measured."""
    if not scores.shape[1]:
        return torch.full_like(varies, start, dtype=torch.int64)
    falling = values.argsort(descending=True)  # argmax takes the first of equals
    return torch.where(varies, falling[scores[:, falling].argmax(1)], start)


def _robust_weights(residual: Tensor, constant: float) -> Tensor:
    """As `least_squares.robust_weights`, for each image of (B, V, h, w)."""
    ordered = residual.flatten(1).sort(1).values
    count = ordered.shape[1]
    median = (ordered[:, (count - 1) // 2] + ordered[:, count // 2]) / 2
    scale = (constant * median)[:, None, None, None]
    return torch.where(scale > 0, 1 / (1 + (residual / scale) ** 2), 1.0)
