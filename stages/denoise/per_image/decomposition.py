"""The result of every solver: y(v, p) = F(x(v, p)) + G(p) + residual.

Legend: V views, h x w grid, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stages.types import UserError

Floats = NDArray[np.floating]


class Field(Protocol):
    """A content field over the image."""

    def __call__(self, coords: NDArray[np.float64]) -> NDArray[np.float32]:
        """Values (..., C) at coordinates (..., 2), (row, column) in [0, 1]^2."""
        ...


@dataclass(frozen=True)
class Terms:
    """What the artifact shared by several images needs from the fit of one image. Legend: P = h * w positions, C
    channels."""

    schur: NDArray[np.float32]
    """(P, P) normal equations of G with F eliminated, without ridge."""
    right: NDArray[np.float32]
    """(P, C) their right side."""
    response: NDArray[np.float32]
    """(P, P) R: when G grows by dG, F at the patch centres falls by R dG."""


@dataclass(frozen=True)
class Decomposition:
    """The tokens of the views of one image, split."""

    F: Field
    """Content: at `patch_centres(grid)` it gives the denoised features."""
    G: NDArray[np.float32]
    """(h, w, C) artifact of each grid position; its mean over the positions is 0 (the constant belongs to F)."""
    residual: NDArray[np.float32]
    """(V, h, w) Euclidean norm of y - F - G of each token."""
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    """JSON values: `held_out_r2`, the chosen `smoothness`, ..."""
    terms: Terms | None = None
    """From `least_squares` with `shared_artifact`."""


def check_tokens(tokens: NDArray[Any], coords: NDArray[Any], grid: tuple[int, int], name: str) -> None:
    """Refuse tokens and coordinates that no solver can use.

    Raises:
        UserError: tokens that are not finite.
        ValueError: shapes that do not match, coordinates outside [0, 1].
    """
    if tokens.ndim != 4 or tokens.shape[1:3] != grid or coords.shape != (*tokens.shape[:3], 2):
        raise ValueError(f"tokens {tokens.shape} and coordinates {coords.shape} do not fit the grid {grid}")
    if not (coords.min() >= 0 and coords.max() <= 1):
        raise ValueError(f"coordinates from {coords.min()} to {coords.max()} are not within [0, 1]")
    wrong = [(v, int((~np.isfinite(view)).any(-1).sum())) for v, view in enumerate(tokens)]
    count = sum(number for _, number in wrong)
    if count:
        first = next(v for v, number in wrong if number)
        raise UserError(
            f"{name}: {count} of {coords[..., 0].size} tokens are NaN or infinite (first in view {first}); "
            "check the backbone's weights and the image, or leave the image out"
        )
