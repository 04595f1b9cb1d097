"""The solvers by name: all take tokens of images' views, and give a `Decomposition` each."""

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
    """Split the tokens (V, h, w, C) of each of several images, seen at coords (V, h, w, 2), by `config.solver`.

    What cannot be solved comes back as its error, so that one bad image never stops the others. `seeds` (one an image)
    matter to `neural_field` alone. On `cuda`, `least_squares` solves the images together.
    """
    if config.solver == "least_squares" and device != "cpu":
        from stages.denoise.per_image.batched import solve_together

        return solve_together(np.stack(tokens), np.stack(coords), grid, config, names, device) if tokens else []
    found: list[Decomposition | UserError] = []
    for one, places, name, seed in zip(tokens, coords, names, seeds, strict=True):
        try:
            found.append(_solve(one, places, grid, config, name, seed, device))
        except UserError as fault:
            found.append(fault)
    return found


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
