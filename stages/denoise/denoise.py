"""DVT stage 1 for one image: views, tokens, and their split into content and positional artifact.

Legend: h, w patch grid; C channels; V views.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.backbone.interface import Backbone
from stages.denoise.config import DenoiseConfig
from stages.denoise.decomposition import check_tokens
from stages.denoise.least_squares import solve
from stages.denoise.views import make_views, patch_centres
from stages.types import UserError, batches

EXTRACT_BATCH = 16
"""Views that the backbone sees at once; its result does not depend on it."""


@dataclass(frozen=True)
class Denoised:
    """What stage 1 says of one image."""

    raw: NDArray[np.float32]
    """(h, w, C) tokens of the whole image, as the backbone gives them."""
    clean: NDArray[np.float32]
    """(h, w, C) its content F at the patch centres: the target of stage 2."""
    artifact: NDArray[np.float32]
    """(h, w, C) G, with mean 0 over the positions."""
    residual: NDArray[np.float32]
    """(h, w) norm of raw - clean - artifact."""
    diagnostics: Mapping[str, Any]
    """JSON values: `smoothness` (lambda), `held_out_r2`, `candidates_r2`, `outlier_share`: see `least_squares`."""


def chosen_images(ids: Sequence[str], config: DenoiseConfig, seed: int) -> list[int]:
    """Positions in `ids` of at most `config.images` of them, in ascending order: the lowest hashes of (seed, id).

    So a choice among more images keeps nearly all of the earlier one, whatever the order.
    """
    ranks = [hashlib.sha256(f"{seed}-{identity}".encode()).digest() for identity in ids]
    return sorted(sorted(range(len(ids)), key=ranks.__getitem__)[: config.images])


def denoise_image(
    image: NDArray[np.uint8], backbone: Backbone, config: DenoiseConfig, seed: int, digest: str
) -> Denoised:
    """Denoise the tokens of one image (H0, W0, 3), RGB, of any size; `digest` names it and seeds its views with `seed`.

    At H0 = W0 = the backbone's side, `raw` is what the backbone gives for the image itself, without resampling.

    Raises:
        UserError: an image smaller than the patch grid or of one colour, tokens that are not finite, too few views. The
            caller may record it and go on with the next image.
    """
    name = f"image {digest[:12]}"
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"{name}: expected (H, W, 3) uint8, got {image.shape} {image.dtype}")
    low, high = int(image.min()), int(image.max())
    if low == high:
        raise UserError(f"{name}: every pixel is {low}: nothing to denoise; leave it out")
    views = make_views(image, backbone.image_side, backbone.grid, config, seed, digest)
    parts = [backbone.extract(views.images[chunk]).tokens for chunk in batches(len(views.images), EXTRACT_BATCH)]
    tokens = np.concatenate(parts).astype(np.float32, copy=False)  # (V, h, w, C)
    check_tokens(tokens, views.coords, backbone.grid, name)
    split = solve(tokens, views.coords, backbone.grid, config, name)
    return Denoised(
        raw=tokens[0],
        clean=split.F(patch_centres(backbone.grid)),
        artifact=split.G,
        residual=split.residual[0],
        diagnostics=split.diagnostics,
    )
