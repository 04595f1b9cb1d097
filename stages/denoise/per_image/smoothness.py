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
"""Random orthonormal mixtures of the channels: their squared errors estimate those of all channels."""


def held_out_scores(
    problem: Problem,
    weights: NDArray[np.float64],
    config: DenoiseConfig,
    held_out: int,
    precondition: Callable[[Array], Array],
) -> list[float | None]:
    """R^2 of F + G on the last `held_out` views, fitted on the other views, for each candidate, weighted by `weights`
    (V, h, w).

    Empty without held-out views; None if the held-out tokens do not vary. `precondition` as in `solve_iteratively`.
    """
    if not held_out:
        return []
    tokens = problem.tokens
    fit_views, test_views = slice(0, len(tokens) - held_out), slice(len(tokens) - held_out, None)
    sums, test = (
        problem.on(fit_views, tokens[fit_views]).sums(weights[fit_views]),
        problem.on(test_views, tokens[test_views]),
    )
    mean = np.average(tokens[fit_views], axis=(0, 1, 2), weights=weights[fit_views])

    def energy(norms: NDArray[np.floating]) -> float:
        return float((weights[test_views] * norms**2).sum())

    total = energy(np.linalg.norm(tokens[test_views] - mean, axis=-1))
    if total <= 1e-10 * energy(np.linalg.norm(tokens[test_views], axis=-1)):  # constant tokens, but for rounding
        return [None] * len(config.smoothness)
    scores: list[float | None] = []
    for value in config.smoothness:
        fields = solve_iteratively(sums, problem.bending, value, config.artifact_ridge, precondition)
        scores.append(1 - energy(test.residual(*fields)) / total)
    return scores


def best_candidate(candidates: Sequence[float], scores: Sequence[float | None], start: float) -> float:
    """The candidate with the highest score, of equal scores the largest candidate; `start` if nothing was measured."""
    measured = [(score, value) for score, value in zip(scores, candidates, strict=False) if score is not None]
    return max(measured)[1] if measured else start


def mixtures(tokens: Floats) -> Floats:
    """(V, h, w, min(C, MIXTURES)) random orthonormal mixtures of the channels, the same for every image."""
    channels = tokens.shape[-1]
    if channels <= MIXTURES:
        return tokens
    basis, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((channels, MIXTURES)))
    return tokens @ basis.astype(tokens.dtype)
