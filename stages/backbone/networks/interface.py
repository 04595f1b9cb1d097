"""The interface of a backbone for other rooms: images in, patch tokens and class attention out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Features:
    """A backbone's output for B images."""

    tokens: NDArray[np.float32]
    """(B, h, w, C) patch tokens of the chosen blocks, after the final norm; or stacked feature maps."""
    attention: NDArray[np.float32] | None
    """(B, heads, h, w) attention of the class token to the patches in the last of them, after the softmax. The sum over
    patches is at most 1, since the class token and registers get the rest. None without a class token."""


class Backbone(Protocol):
    """A frozen feature extractor."""

    digest: str
    """sha256 of weights and configuration; part of every cache key of features."""
    image_side: int
    """S: side in pixels of the square input."""
    grid: tuple[int, int]
    """(h, w)."""
    channels: int
    """C."""
    heads: int
    """Attention heads of a block; 0 without class attention."""
    patch_size: int
    """Pixels per token along a side: S = h * patch_size."""
    blocks: tuple[int, ...] | None
    """Transformer blocks that are read, counted from 1; None for feature maps."""
    prefix_tokens: int
    """Tokens before the patches: class token, registers and the like. `Features.tokens` does not include them."""
    registers: int
    """How many of the prefix tokens are registers (Darcet et al., ICLR 2024)."""
    mean: tuple[float, float, float]
    """Of red, green and blue in [0, 1]: `extract` itself normalises pixels to (x - mean) / std."""
    std: tuple[float, float, float]
    """See `mean`."""

    def extract(self, images: NDArray[np.uint8]) -> Features:
        """Features of (B, S, S, 3) uint8 RGB images.

        The result of an image does not depend, to the byte, on the other images or on B.
        """
        ...
