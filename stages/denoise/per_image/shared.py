"""The artifact that all images share, and each image's own artifact shrunk toward it.

G hardly depends on the image. With the content F_i of each image i eliminated, the least squares of all images with one
G is the sum of their Schur terms, which `least_squares.solve` gives with `config.shared_artifact`:

    (sum_i schur_i + mu) G = sum_i right_i,    mean(G) = 0

One P x P and one P x C sum represent any number of images. The image's own fit with mu |G_i - G|^2 instead of mu
|G_i|^2 follows without another solve, since F is linear in G_i at the image's own lambda and weights:

    (schur_i + mu) G_i = right_i + mu G,    F_i falls by response_i (G_i - previous G_i)

So what is stored of an image does not depend on other images, and a new image costs one image although G changes.
Deviation from the paper (Yang et al., "Denoising Vision Transformers", ECCV 2024), whose G belongs to one image: a few
views of one image hardly separate F from G, the views of many images do.

Legend: h x w grid, P = h * w positions, C channels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from stages.denoise.per_image.decomposition import Floats, Terms
from stages.denoise.per_image.least_squares import blas_threads
from stages.types import UserError

Array = NDArray[np.float64]


class SharedArtifact:
    """Sums over images. Add images in the order of the manifest; another order gives the same result except for
    rounding."""

    def __init__(self) -> None:
        self.count = 0
        """Number of images added."""
        self._schur: Array = np.zeros((0, 0))
        self._right: Array = np.zeros((0, 0))

    def add(self, terms: Terms) -> None:
        """Add one image.

        Raises:
            ValueError: its terms have another shape than those of earlier images.
        """
        if not self.count:
            self._schur, self._right = np.zeros(terms.schur.shape), np.zeros(terms.right.shape)
        if (terms.schur.shape, terms.right.shape) != (self._schur.shape, self._right.shape):
            raise ValueError(
                f"terms {terms.schur.shape} and {terms.right.shape} do not fit the sums "
                f"{self._schur.shape} and {self._right.shape}"
            )
        self._schur += terms.schur
        self._right += terms.right
        self.count += 1

    def estimate(self, ridge: float) -> Array:
        """(P, C) the artifact of all images together, of mean 0; `ridge` is mu, once for all images.

        Raises:
            UserError: at `ridge` 0, if the images do not determine G.
            ValueError: no image was added.
        """
        if not self.count:
            raise ValueError("no image was added")
        return _solve(self._schur, ridge, self._right)


def shrink_toward(
    clean: Floats, artifact: Floats, terms: Terms, prior: Array, ridge: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """An image's `clean` (F at the patch centres) and `artifact` (G), (h, w, C) each, fitted with mu |G - prior|^2.

    `prior` (P, C) has mean 0; `ridge` is mu. The result has the lambda and the robust weights of the image's own fit,
    and depends on that fit's ridge only through them.

    Raises:
        UserError: at `ridge` 0, if the image does not determine G.
        ValueError: shapes that do not match.
    """
    if clean.shape != artifact.shape or prior.shape != terms.right.shape or clean[..., 0].size != len(prior):
        raise ValueError(
            f"clean {clean.shape}, artifact {artifact.shape}, prior {prior.shape} and terms {terms.right.shape} "
            "do not belong together"
        )
    shrunk = _solve(terms.schur.astype(np.float64), ridge, terms.right + ridge * prior).reshape(artifact.shape)
    with blas_threads().limit(limits=1, user_api="blas"):
        change = terms.response @ (shrunk - artifact).reshape(prior.shape)  # (h, w, C) -> (P, C)
    return (clean - change.reshape(clean.shape)).astype(np.float32), shrunk.astype(np.float32)


def _solve(schur: Array, ridge: float, right: Array) -> Array:
    """(schur + ridge) G = right with mean(G) = 0.

    For a constant G `schur` and `right` are 0, so a term on mean(G), in the scale of the diagonal, changes nothing
    else.
    """
    system = schur + np.trace(schur) / len(schur) ** 2
    system[np.diag_indices_from(system)] += ridge
    try:
        with blas_threads().limit(limits=1, user_api="blas"):
            solution = cho_solve(cho_factor(system, lower=True, check_finite=False), right, check_finite=False)
    except np.linalg.LinAlgError:
        raise UserError(
            f"denoise.artifact_ridge {ridge:g} leaves the artifact of {len(schur)} positions undetermined; "
            "raise it, or denoise.views"
        ) from None
    return solution - solution.mean(0)
