"""The solvers by name: each takes the tokens of images' views and gives a `Decomposition` per image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stages.denoise.config import DenoiseConfig
from stages.denoise.per_image.decomposition import Decomposition, Floats
from stages.types import UserError


def solve_images(
    tokens: Sequence[Floats],
    coords: Sequence[NDArray[np.float64]],
    grid: tuple[int, int],
    config: DenoiseConfig,
    names: Sequence[str],
    seeds: Sequence[int],
    device: str,
) -> list[Decomposition | UserError]:
    """Split the tokens (V, h, w, C) of each of several images, at coords (V, h, w, 2), by `config.solver`.

    An image that cannot be solved gives its error, so that a bad image does not stop the others. `seeds` (one per
    image) matter only to `neural_field`. On `cuda`, `least_squares` solves the images together.
    """
    if config.solver == "least_squares" and device != "cpu":
        from stages.denoise.per_image.batched import solve_together

        return solve_together(np.stack(tokens), np.stack(coords), grid, config, names, device) if tokens else []
    results: list[Decomposition | UserError] = []
    for tokens_of_image, coords_of_image, name, seed in zip(tokens, coords, names, seeds, strict=True):
        try:
            results.append(_solve(tokens_of_image, coords_of_image, grid, config, name, seed, device))
        except UserError as fault:
            results.append(fault)
    return results


def _solve(
    tokens: Floats,
    coords: NDArray[np.float64],
    grid: tuple[int, int],
    config: DenoiseConfig,
    name: str,
    seed: int,
    device: str,
) -> Decomposition:
    if config.solver == "neural_field":
        from stages.denoise.per_image import neural_field

        return neural_field.solve(tokens, coords, grid, config, name, seed, device)
    from stages.denoise.per_image import least_squares

    return least_squares.solve(tokens, coords, grid, config, name)
