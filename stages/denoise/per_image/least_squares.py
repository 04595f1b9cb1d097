"""DVT's fit of one image as linear least squares: exact for a bilinear content field, without gradient steps.

    min over F, G of   sum_i w_i |y_i - S_i F - G_p(i)|^2 + lambda tr(F^T L F) + mu |G|^2,    mean(G) = 0

Normal equations, with S (M, N) the interpolation, E (M, P) the choice of the position, W = diag(w):

    [ A    B     ] [F]   [S^T W y]     A = S^T W S + lambda L (banded),  B = S^T W E,
    [ B^T  D + mu] [G] = [E^T W y]     D = E^T W E (diagonal).

With A = K K^T, Z = K^-1 B and q = K^-1 S^T W y, the Schur complement gives (D + mu - Z^T Z) G = E^T W y - Z^T q, then F
= K^-T (q - Z G). One factorisation serves all channels.

Source: Yang et al., "Denoising Vision Transformers", ECCV 2024, section 4.1, equations 5 to 8. Deviations: F is a
bilinear grid with bending energy instead of a hash grid with an MLP, so the problem is linear and solved exactly;
weights w = 1 / (1 + (|residual| / k)^2), k = c * median, replace the residual network, for the same high-norm tokens;
the error is squared error alone, since a cosine term is not quadratic.

Legend: V views, h x w grid, P = h * w, M = V * P tokens, C channels, N nodes; blocks (T, m) as in `banded`.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from stages.denoise.config import DenoiseConfig
from stages.denoise.per_image.decomposition import Decomposition, Floats, Terms, check_tokens
from stages.denoise.per_image.grid import BilinearField, corners, node_grid, sparse_rows
from stages.denoise.per_image.normal_equations import Reduced, reduce
from stages.denoise.per_image.problem import Problem
from stages.denoise.per_image.smoothness import best_candidate, held_out_scores, mixtures
from stages.denoise.per_image.views import patch_centres
from stages.types import UserError


def solve(
    tokens: Floats, coords: NDArray[np.float64], grid: tuple[int, int], config: DenoiseConfig, name: str = "image"
) -> Decomposition:
    """Split the tokens (V, h, w, C), float32 or float64, at `coords` (V, h, w, 2) in [0, 1]^2 (row, column).

    With `config.held_out` the last views are held out while lambda is chosen; the final fit uses all views.
    Diagnostics: `smoothness` (lambda), `held_out_r2` (share of the held-out tokens' variance that F + G explain, in the
    weights of the first pass; None without held-out views or variance), `candidates_r2`, `outlier_share` (tokens of
    weight < 0.5). With `config.shared_artifact` also the final fit's `terms` (see `shared`).

    Args:
        name: the image, for messages.

    Raises:
        UserError: tokens that are not finite, or too few views for the grid of nodes.
        ValueError: shapes that do not match.
    """
    check_tokens(tokens, coords, grid, name)
    held_out = held_out_count(len(tokens), config, name)
    problem = Problem.from_tokens(tokens, coords, grid, node_grid(grid, config.nodes_per_patch))
    try:
        with blas_threads().limit(limits=1, user_api="blas"):
            return _solve(problem, grid, held_out, config)
    except np.linalg.LinAlgError:
        raise too_few_views(len(tokens), grid, config, name) from None


def held_out_count(views: int, config: DenoiseConfig, name: str) -> int:
    """How many of the views are held out.

    Raises:
        UserError: fewer than two views remain to fit.
    """
    held_out = max(1, round(config.held_out * views)) if config.held_out else 0
    if views - held_out < 2:
        raise UserError(
            f"{name}: {views} views with {held_out} held out leave {views - held_out} to fit, at least 2 are "
            "needed; raise denoise.views"
        )
    return held_out


def too_few_views(views: int, grid: tuple[int, int], config: DenoiseConfig, name: str) -> UserError:
    """The error for a system that is not positive definite."""
    nodes = node_grid(grid, config.nodes_per_patch)
    return UserError(
        f"{name}: {views} views are too few for {nodes[0]} x {nodes[1]} nodes with "
        f"smoothness {min(config.smoothness)}; raise denoise.views or denoise.smoothness, "
        "or lower denoise.nodes_per_patch"
    )


@cache
def blas_threads() -> ThreadpoolController:
    """Limits BLAS to one thread: the blocks are too small for several threads, which mostly wait for each other
    (measured: up to 40 times the CPU time beside other processes), and one thread gives the same bytes on any number of
    cores."""
    return ThreadpoolController()


def _solve(problem: Problem, grid: tuple[int, int], held_out: int, config: DenoiseConfig) -> Decomposition:
    """The first fit, with the middle lambda, and the choice of lambda use mixtures of the channels; later fits use all
    channels.

    The first fit only weighs the tokens; a residual estimated on a few mixtures suffices for that.
    """
    mixed = problem.on(slice(None), mixtures(problem.tokens))
    start = config.smoothness[len(config.smoothness) // 2]
    weights = np.ones(problem.tokens.shape[:3])
    system = reduce(mixed.sums(weights), problem.bending, start, config.artifact_ridge)
    residual = mixed.residual(*system.solve(solver := system.solver()))
    if config.passes > 1:
        weights = robust_weights(residual, config.robust_constant)
    scores = held_out_scores(mixed, weights, config, held_out, solver)
    chosen = best_candidate(config.smoothness, scores, start)
    for step in range(max(1, config.passes - 1)):
        if step:
            weights = robust_weights(residual, config.robust_constant)
        system = reduce(problem.sums(weights), problem.bending, chosen, config.artifact_ridge)
        field, artifact = system.solve(system.solver())
        residual = problem.residual(field, artifact)
    return Decomposition(
        F=BilinearField(field.reshape(*problem.nodes, -1).astype(np.float32)),
        G=artifact.reshape(*grid, -1).astype(np.float32),
        residual=residual.astype(np.float32),
        diagnostics={
            "smoothness": chosen,
            "held_out_r2": scores[config.smoothness.index(chosen)] if scores else None,
            "candidates_r2": scores,
            "outlier_share": float((weights < 0.5).mean()),
        },
        terms=_terms(system, problem, grid) if config.shared_artifact else None,
    )


def _terms(system: Reduced, problem: Problem, grid: tuple[int, int]) -> Terms:
    index, weight = corners(patch_centres(grid).reshape(-1, 2), problem.nodes)  # (h, w, 2) -> (P, 2)
    pull = system.pull()
    return Terms(
        schur=system.own_schur().astype(np.float32),
        right=system.right.astype(np.float32),
        response=(sparse_rows(index, weight, len(pull)) @ pull).astype(np.float32),
    )


def robust_weights(residual: NDArray[np.float64], constant: float) -> NDArray[np.float64]:
    """1 / (1 + (r / k)^2), k = constant * median(r); ones if the median is 0 (an exact fit of at least half of the
    tokens)."""
    scale = constant * np.median(residual)
    return 1 / (1 + (residual / scale) ** 2) if scale > 0 else np.ones_like(residual)
