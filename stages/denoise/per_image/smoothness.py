"""The choice of lambda: how well each candidate predicts views that it was not fitted on.

Legend: V views, h x w grid, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from stages.denoise.config import DenoiseConfig
from stages.denoise.per_image.decomposition import Floats
from stages.denoise.per_image.normal_equations import Array, solve_iteratively
from stages.denoise.per_image.problem import Problem

MIXTURES = 32
"""Of all channels, random and orthonormal: their squared errors estimate those of all channels."""


def held_out_scores(
    problem: Problem,
    weights: NDArray[np.float64],
    config: DenoiseConfig,
    held: int,
    precondition: Callable[[Array], Array],
) -> list[float | None]:
    """R^2 of F + G on the last `held` views, fitted on the others, for each candidate; weighed by `weights` (V, h, w).

    Empty without held-out views; None where the held-out tokens do not vary. `precondition` as in `solve_iteratively`.
    """
    if not held:
        return []
    tokens = problem.tokens
    fitted, left = slice(0, len(tokens) - held), slice(len(tokens) - held, None)
    sums, test = problem.on(fitted, tokens[fitted]).sums(weights[fitted]), problem.on(left, tokens[left])
    mean = np.average(tokens[fitted], axis=(0, 1, 2), weights=weights[fitted])

    def energy(norms: NDArray[np.floating]) -> float:
        return float((weights[left] * norms**2).sum())

    whole = energy(np.linalg.norm(tokens[left] - mean, axis=-1))
    if whole <= 1e-10 * energy(np.linalg.norm(tokens[left], axis=-1)):  # constant tokens, but for rounding
        return [None] * len(config.smoothness)
    scores: list[float | None] = []
    for value in config.smoothness:
        fields = solve_iteratively(sums, problem.bending, value, config.artifact_ridge, precondition)
        scores.append(1 - energy(test.residual(*fields)) / whole)
    return scores


def best(candidates: Sequence[float], scores: Sequence[float | None], start: float) -> float:
    """The candidate with the highest score, the greatest of equals; `start` where nothing was measured."""
    known = [(score, value) for score, value in zip(scores, candidates, strict=False) if score is not None]
    return max(known)[1] if known else start


def mixtures(tokens: Floats) -> Floats:
    """(V, h, w, min(C, MIXTURES)) random orthonormal mixtures of the channels, the same for every image."""
    channels = tokens.shape[-1]
    if channels <= MIXTURES:
        return tokens
    basis, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((channels, MIXTURES)))
    return tokens @ basis.astype(tokens.dtype)
