"""DVT step 1 for images: views, tokens, and their split into content and positional artifact.

Legend: h, w patch grid; C channels; V views.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.backbone.networks.interface import Backbone
from stages.denoise.config import DenoiseConfig
from stages.denoise.per_image.decomposition import Decomposition, Terms, check_tokens
from stages.denoise.per_image.solvers import solve_images
from stages.denoise.per_image.views import Views, make_views, patch_centres
from stages.types import UserError


@dataclass(frozen=True)
class Denoised:
    """The result of step 1 for one image."""

    raw: NDArray[np.float32]
    """(h, w, C) tokens of the whole image, as the backbone gives them."""
    clean: NDArray[np.float32]
    """(h, w, C) its content F at the patch centres: the target of step 2."""
    artifact: NDArray[np.float32]
    """(h, w, C) G, with mean 0 over the positions."""
    residual: NDArray[np.float32]
    """(h, w) norm of raw - clean - artifact."""
    diagnostics: Mapping[str, Any]
    """JSON values: `smoothness` (lambda), `held_out_r2`, `candidates_r2`, `outlier_share`: see `least_squares`."""
    terms: Terms | None = None
    """With `shared_artifact`: the input of `shared`."""


def chosen_images(ids: Sequence[str], count: int, seed: int) -> list[int]:
    """Positions in `ids` of at most `count` images, in ascending order: those with the lowest hashes of (seed, id).

    So a choice from more images keeps nearly all of the earlier choice, whatever the order.
    """
    ranks = [hashlib.sha256(f"{seed}-{identity}".encode()).digest() for identity in ids]
    return sorted(sorted(range(len(ids)), key=ranks.__getitem__)[:count])


def denoise_images(
    images: Sequence[NDArray[np.uint8]],
    digests: Sequence[str],
    backbone: Backbone,
    config: DenoiseConfig,
    seed: int,
    device: str = "cpu",
) -> list[Denoised | UserError]:
    """Denoise the tokens of images (H0, W0, 3), RGB, of any size.

    At H0 = W0 = the backbone's side, `raw` is the backbone's output for the image itself, without resampling. On `cuda`
    the images are solved together.

    Args:
        digests: identify the images; with `seed` they determine the views.

    Returns:
        For each image its result, or its error if it cannot be denoised (smaller than the patch grid, of one colour,
        with tokens that are not finite, too few views). A bad image does not stop the others.
    """
    results: dict[int, Denoised | UserError] = {}
    views_and_tokens: dict[int, tuple[Views, NDArray[np.float32]]] = {}
    for i, (image, digest) in enumerate(zip(images, digests, strict=True)):
        try:
            views_and_tokens[i] = _tokens(image, digest, backbone, config, seed)
        except UserError as fault:
            results[i] = fault
    splits = solve_images(
        [tokens for _, tokens in views_and_tokens.values()],
        [views.coords for views, _ in views_and_tokens.values()],
        backbone.grid,
        config,
        [_name(digests[i]) for i in views_and_tokens],
        [seed_of(seed, digests[i]) for i in views_and_tokens],
        device,
    )
    for (i, (_, tokens)), split in zip(views_and_tokens.items(), splits, strict=True):
        results[i] = split if isinstance(split, UserError) else _denoised(tokens[0], split, backbone.grid)
    return [results[i] for i in range(len(images))]


def seed_of(seed: int, digest: str) -> int:
    """The seed of one image."""
    return int.from_bytes(hashlib.sha256(f"{seed}-{digest}".encode()).digest()[:8], "big")


def _name(digest: str) -> str:
    return f"image {digest[:12]}"


def _tokens(
    image: NDArray[np.uint8], digest: str, backbone: Backbone, config: DenoiseConfig, seed: int
) -> tuple[Views, NDArray[np.float32]]:
    """The views and their tokens (V, h, w, C)."""
    name = _name(digest)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"{name}: expected (H, W, 3) uint8, got {image.shape} {image.dtype}")
    low, high = int(image.min()), int(image.max())
    if low == high:
        raise UserError(f"{name}: every pixel is {low}: nothing to denoise; leave it out")
    views = make_views(image, backbone.image_side, backbone.grid, config, seed_of(seed, digest), name)
    tokens = backbone.extract(views.images).tokens
    check_tokens(tokens, views.coords, backbone.grid, name)
    return views, tokens


def _denoised(raw: NDArray[np.float32], split: Decomposition, grid: tuple[int, int]) -> Denoised:
    return Denoised(
        raw=raw,
        clean=split.F(patch_centres(grid)),
        artifact=split.G,
        residual=split.residual[0],
        diagnostics=split.diagnostics,
        terms=split.terms,
    )
