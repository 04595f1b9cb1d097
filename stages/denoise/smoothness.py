"""The choice of lambda: how well each candidate predicts views that it was not fitted on.

Legend: V views, h x w grid, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from stages.denoise.config import DenoiseConfig
from stages.denoise.decomposition import Floats
from stages.denoise.normal_equations import Array, solve_iteratively
from stages.denoise.problem import Problem

PROBES = 32
"""Channels on which lambda is chosen, random orthonormal mixtures of all: their errors estimate those of all."""


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
    probes = _probe(problem.tokens)
    fitted, left = slice(0, len(probes) - held), slice(len(probes) - held, None)
    sums, test = problem.on(fitted, probes[fitted]).sums(weights[fitted]), problem.on(left, probes[left])
    mean = np.average(probes[fitted], axis=(0, 1, 2), weights=weights[fitted])

    def energy(norms: NDArray[np.floating]) -> float:
        return float((weights[left] * norms**2).sum())

    whole = energy(np.linalg.norm(probes[left] - mean, axis=-1))
    if whole <= 1e-10 * energy(np.linalg.norm(probes[left], axis=-1)):  # constant tokens, but for rounding
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


def _probe(tokens: Floats) -> Floats:
    """(V, h, w, min(C, PROBES)) random orthonormal mixtures of the channels, the same for every image."""
    channels = tokens.shape[-1]
    if channels <= PROBES:
        return tokens
    basis, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((channels, PROBES)))
    return tokens @ basis.astype(tokens.dtype)
