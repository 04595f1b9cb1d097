"""The solvers by name: all take tokens of one image's views, and give a `Decomposition`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stages.denoise.config import DenoiseConfig
from stages.denoise.decomposition import Decomposition, Floats
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
    matter to `neural_field` alone. On `cuda` the images of one call are solved together.
    """
    from stages.denoise import least_squares

    found: list[Decomposition | UserError] = []
    for one, places, name, _seed in zip(tokens, coords, names, seeds, strict=True):
        try:
            found.append(least_squares.solve(one, places, grid, config, name))
        except UserError as fault:
            found.append(fault)
    return found
