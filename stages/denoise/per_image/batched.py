"""The least-squares fit of several images at once, by batched dense Cholesky, for a GPU: one queue of large matrix
products. The objective, passes, choice of lambda and diagnostics are those of `least_squares`.

Views are axis-aligned crops, so the interpolation of view v is a product of a row and a column matrix (Kronecker), S_v
= R_v (x) C_v, and each sum over tokens is a batched product. Nothing is scattered or added atomically, so a device
repeats its bytes.
Differences to `least_squares`: A is factored as a dense matrix (N^3 / 3 operations, N^2 memory) instead of by blocks;
sums and residuals are in double precision whatever the tokens; candidates for lambda are solved directly instead of
iteratively, so their R^2 differ by up to 1e-3. Results agree within 1e-5 (a test) if the same lambda is chosen.

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
from stages.denoise.per_image.least_squares import held_out_count, too_few_views
from stages.denoise.per_image.smoothness import mixtures
from stages.types import UserError, batches

MEMORY = 4 * 2**30
"""Approximate bytes that a group of images may use on the device; a group has at least one image."""


def solve_together(
    tokens: Floats,
    coords: NDArray[np.float64],
    grid: tuple[int, int],
    config: DenoiseConfig,
    names: Sequence[str],
    device: str,
    memory_bytes: int = MEMORY,
) -> list[Decomposition | UserError]:
    """Split the tokens (B, V, h, w, C), float32 or float64, of B images, at coords (B, V, h, w, 2) in [0, 1]^2.

    Args:
        device: of PyTorch, `cuda` or `cpu`.
        memory_bytes: determines how many images are processed at once.

    Returns:
        For each image the result of `least_squares.solve`, or the UserError that it raises. Beyond rounding it does not
        depend on the other images.

    Raises:
        ValueError: shapes that do not match, or coordinates that are not a lattice of rows and columns.
    """
    if tokens.ndim != 5 or len(names) != len(tokens) or coords.shape[:1] != tokens.shape[:1]:
        raise ValueError(f"tokens {tokens.shape}, coordinates {coords.shape} and {len(names)} names do not fit")
    results: dict[int, Decomposition | UserError] = {}
    held_out = 0
    for number, name in enumerate(names):
        try:
            check_tokens(tokens[number], coords[number], grid, name)
            held_out = held_out_count(tokens.shape[1], config, name)
        except UserError as fault:
            results[number] = fault
    rows, columns = _lattice(coords)
    good = [number for number in range(len(names)) if number not in results]
    size = max(1, memory_bytes // _image_bytes(tokens.shape[1:], grid, config, tokens.itemsize))
    for part in batches(len(good), size):
        chosen = good[part]
        group = _Group.from_tokens(tokens[chosen], rows[chosen], columns[chosen], grid, config, held_out, device)
        for number, decomposition in zip(chosen, _solve_group(group, grid), strict=True):
            results[number] = decomposition or too_few_views(tokens.shape[1], grid, config, names[number])
    return [results[number] for number in range(len(names))]


def _lattice(coords: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Row coordinates (B, V, h) and column coordinates (B, V, w)."""
    rows, columns = coords[:, :, :, :1, 0], coords[:, :, :1, :, 1]
    offset = max(np.ptp(coords[..., 0], axis=3).max(initial=0), np.ptp(coords[..., 1], axis=2).max(initial=0))
    if not offset <= 1e-9:
        raise ValueError(
            f"coordinates are not a lattice: within a row or a column of patches they differ by {offset:g}"
        )
    return rows[..., 0], columns[:, :, 0]


def _image_bytes(shape: Sequence[int], grid: tuple[int, int], config: DenoiseConfig, itemsize: int) -> int:
    """Memory for one image: tokens, some matrices A and sums, and chunks of tokens."""
    positions, channels = grid[0] * grid[1], shape[-1]
    count = int(np.prod(node_grid(grid, config.nodes_per_patch)))
    doubles = 3 * count**2 + 3 * count * (positions + channels) + 4 * positions**2
    return int(np.prod(shape)) * itemsize + 8 * doubles + 3 * CHUNK


@dataclass(frozen=True)
class _Group:
    """Images that are processed at once, on the device."""

    images: Images
    mixed: Images
    """The same images with at most `smoothness.MIXTURES` mixtures of the channels."""
    bending: Band
    config: DenoiseConfig
    held_out: int
    """Number of views that are held out."""

    @classmethod
    def from_tokens(
        cls,
        tokens: Floats,
        rows: NDArray[np.float64],
        columns: NDArray[np.float64],
        grid: tuple[int, int],
        config: DenoiseConfig,
        held_out: int,
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
        return cls(images, Images(mixed, *interpolation), bending_of(nodes, device), config, held_out)

    def solve(self, images: Images, weights: Tensor, smoothness: Tensor) -> System:
        """With weights (B, V, h, w) and lambda (B,)."""
        return System.from_sums(Sums.from_tokens(images, weights), self.bending, smoothness, self.config.artifact_ridge)

    def scores(self, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `smoothness.held_out_scores`: R^2 (B, candidates), empty without held-out views; whether the held-out
        tokens vary (B,); which images failed (B,)."""
        count, views = weights.shape[0], weights.shape[1] - self.held_out
        if not self.held_out:
            nobody = weights.new_zeros(count, dtype=torch.bool)
            return weights.new_zeros(count, 0), nobody, nobody
        fit_weights, test_weights = weights[:, :views], weights[:, views:]
        fit_images, test_images = self.mixed.select(slice(0, views)), self.mixed.select(slice(views, None))
        sums = Sums.from_tokens(fit_images, fit_weights)
        mean = sums.artifact.sum(1) / fit_weights.sum((1, 2, 3))[:, None]  # (B, C)
        offset = test_images.tokens - mean[:, None, None, None]
        total = (test_weights[..., None] * offset**2).sum((1, 2, 3, 4))
        varies = total > 1e-10 * (test_weights[..., None] * test_images.tokens**2).sum((1, 2, 3, 4))
        scores, failed = [], torch.zeros_like(varies)
        for value in self.config.smoothness:
            system = System.from_sums(sums, self.bending, torch.full_like(total, value), self.config.artifact_ridge)
            residual = test_images.residual(system.field, system.artifact)
            scores.append(1 - (test_weights * residual**2).sum((1, 2, 3)) / total)
            failed = failed | system.failed
        return torch.stack(scores, 1), varies, failed


def _solve_group(group: _Group, grid: tuple[int, int]) -> list[Decomposition | None]:
    """As `least_squares._solve`; None for an image whose matrix is not positive definite."""
    config, images = group.config, group.images
    start = len(config.smoothness) // 2
    weights = group.mixed.tokens.new_ones(images.tokens.shape[:4])
    values = weights.new_tensor(config.smoothness)
    system = group.solve(group.mixed, weights, values[start].expand(len(weights)))
    failed, residual = system.failed, group.mixed.residual(system.field, system.artifact)
    if config.passes > 1:
        weights = _robust_weights(residual, config.robust_constant)
    scores, varies, unfit = group.scores(weights)
    chosen, failed = _best_candidates(values, scores, varies, start), failed | unfit
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
    per_image = ({name: value[number] for name, value in host.items()} for number in range(len(failed)))
    return [None if arrays["failed"] else _decomposition(arrays, grid, config) for arrays in per_image]


def _decomposition(arrays: dict[str, NDArray[Any]], grid: tuple[int, int], config: DenoiseConfig) -> Decomposition:
    chosen, varies = int(arrays["chosen"]), bool(arrays["varies"])
    scores = [float(score) if varies else None for score in arrays["scores"]]
    nodes = node_grid(grid, config.nodes_per_patch)
    return Decomposition(
        F=BilinearField(arrays["field"].reshape(*nodes, -1)),  # (N, C) -> (ny, nx, C)
        G=arrays["artifact"].reshape(*grid, -1),  # (P, C) -> (h, w, C)
        residual=arrays["residual"],
        diagnostics={
            "smoothness": config.smoothness[chosen],
            "held_out_r2": scores[chosen] if scores else None,
            "candidates_r2": scores,
            "outlier_share": float(arrays["outliers"]),
        },
        terms=Terms(arrays["schur"], arrays["right"], arrays["response"]) if config.shared_artifact else None,
    )


def _best_candidates(values: Tensor, scores: Tensor, varies: Tensor, start: int) -> Tensor:
    """(B,) as `smoothness.best_candidate`: index of the candidate with the highest score, of equal scores the largest
    candidate; `start` if nothing was measured."""
    if not scores.shape[1]:
        return torch.full_like(varies, start, dtype=torch.int64)
    descending = values.argsort(descending=True)  # argmax takes the first of equal scores
    return torch.where(varies, descending[scores[:, descending].argmax(1)], start)


def _robust_weights(residual: Tensor, constant: float) -> Tensor:
    """As `least_squares.robust_weights`, for each image of (B, V, h, w)."""
    ordered = residual.flatten(1).sort(1).values
    count = ordered.shape[1]
    median = (ordered[:, (count - 1) // 2] + ordered[:, count // 2]) / 2
    scale = (constant * median)[:, None, None, None]
    return torch.where(scale > 0, 1 / (1 + (residual / scale) ** 2), 1.0)
