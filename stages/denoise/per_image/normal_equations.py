"""The normal equations of one image, with the content F eliminated. The equations are in `least_squares`.

Legend: P positions, C channels, N nodes in T blocks of m (see `banded`), N' = T * m.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from stages.denoise.per_image.banded import Factor, Layout, factorise

Array = NDArray[np.float64]
Fields = tuple[Array, Array]
"""F at the nodes (N, C) and G (P, C)."""


@dataclass(frozen=True)
class Sums:
    """Sums over tokens: all that the normal equations need from the tokens, for any lambda."""

    layout: Layout
    band: Array
    """(2, T, m, m) S^T W S."""
    coupling: Array
    """(T, m, P) B."""
    seen: Array
    """(P,) the diagonal of D."""
    content: Array
    """(T, m, C) S^T W y."""
    artifact: Array
    """(P, C) E^T W y."""


@dataclass(frozen=True)
class Reduced:
    """Normal equations with F eliminated, for one lambda."""

    layout: Layout
    factor: Factor
    """K K^T = A."""
    mixed: Array
    """(T, m, P) Z = K^-1 B."""
    partial: Array
    """(T, m, C) q = K^-1 S^T W y."""
    schur: Array
    """(P, P) D + mu - Z^T Z, the system for G. Such terms of several images with one G may be added."""
    right: Array
    """(P, C) E^T W y - Z^T q."""
    ridge: float
    """mu."""
    gauge: float
    """See `_gauge`."""

    def own_schur(self) -> Array:
        """(P, P) D - Z^T Z: `schur` without ridge and gauge."""
        own = self.schur - self.gauge
        own[np.diag_indices_from(own)] -= self.ridge
        return own

    def pull(self) -> Array:
        """(N, P) A^-1 B: when G grows by dG, F at the nodes falls by this times dG."""
        return self.layout.strip(self.factor.backward(self.mixed))

    def solver(self) -> Callable[[Array], Array]:
        """right (P, K) -> schur^-1 right."""
        lower = cho_factor(self.schur, lower=True, check_finite=False)
        return lambda right: cho_solve(lower, right, check_finite=False)

    def solve(self, solver: Callable[[Array], Array]) -> Fields:
        """F and G, with the result of `solver`."""
        artifact = solver(self.right)
        return self.layout.strip(self.factor.backward(self.partial - self.mixed @ artifact)), artifact


def reduce(sums: Sums, bending: Array, smoothness: float, ridge: float) -> Reduced:
    """Eliminate F.

    For a constant G the Schur complement is mu alone; at mu > 0 the minimum then has mean(G) = 0 by itself. A term on
    mean(G), which is 0 there, keeps the system well conditioned for any mu.

    Raises:
        numpy.linalg.LinAlgError: the tokens do not determine F.
    """
    factor = factorise(sums.band + smoothness * bending)
    mixed, partial = factor.forward(sums.coupling), factor.forward(sums.content)
    flat = mixed.reshape(-1, len(sums.seen))  # (T, m, P) -> (N', P)
    schur, gauge = flat.T @ flat, _gauge(sums)
    np.subtract(gauge, schur, out=schur)
    schur[np.diag_indices_from(schur)] += sums.seen + ridge
    right = sums.artifact - flat.T @ partial.reshape(len(flat), -1)
    return Reduced(sums.layout, factor, mixed, partial, schur, right, ridge, gauge)


def solve_iteratively(
    sums: Sums,
    bending: Array,
    smoothness: float,
    ridge: float,
    precondition: Callable[[Array], Array],
    tolerance: float = 1e-3,
    limit: int = 100,
) -> Fields:
    """F and G by conjugate gradients on the Schur complement, which is never formed: cheap for few channels.

    `precondition` solves a similar system (that of another lambda). The iteration stops when every channel's residual
    is below `tolerance` times its right side, in norm.
    """
    factor, shape = factorise(sums.band + smoothness * bending), sums.content.shape
    coupling = sums.coupling.reshape(-1, len(sums.seen))  # (T, m, P) -> (N', P)

    def content(right: Array) -> Array:  # A^-1 right, (N', C)
        return factor.backward(factor.forward(right.reshape(shape))).reshape(len(coupling), -1)

    def schur(artifact: Array) -> Array:
        own = (sums.seen + ridge)[:, None] * artifact + _gauge(sums) * artifact.sum(0)
        return own - coupling.T @ content(coupling @ artifact)

    flat = sums.content.reshape(len(coupling), -1)
    rest = sums.artifact - coupling.T @ content(flat)
    goal = tolerance * np.linalg.norm(rest, axis=0)
    artifact, step = np.zeros_like(rest), precondition(rest)
    slope = (rest * step).sum(0)
    for _ in range(limit):
        if (np.linalg.norm(rest, axis=0) <= goal).all():
            break
        image = schur(step)
        length = slope / np.maximum((step * image).sum(0), np.finfo(np.float64).tiny)
        artifact += length * step
        rest -= length * image
        ready = precondition(rest)
        before, slope = slope, (rest * ready).sum(0)
        step = ready + slope / np.maximum(before, np.finfo(np.float64).tiny) * step
    return sums.layout.strip(content(flat - coupling @ artifact)), artifact


def _gauge(sums: Sums) -> float:
    """Entry of the all-equal matrix that ties mean(G) to 0, in the scale of the diagonal."""
    return float(sums.seen.mean() / len(sums.seen))
