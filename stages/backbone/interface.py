"""The one view of a backbone that other steps have: images in, patch tokens and class attention out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Features:
    """What a backbone says of B images."""

    tokens: NDArray[np.float32]
    """(B, h, w, C) last block's patch tokens, after the final norm."""
    attention: NDArray[np.float32] | None
    """(B, heads, h, w) last block's attention of the class token to the patches, as softmaxed (so the sum over patches
    is at most 1, the rest being on the class token and registers); None without a class token."""


class Backbone(Protocol):
    """A frozen feature extractor."""

    digest: str
    """sha256 of weights and configuration: it names the features in every cache key."""
    image_side: int
    """S: side in pixels of the square input."""
    grid: tuple[int, int]
    """(h, w)."""
    channels: int
    """C."""
    heads: int
    """Attention heads of the last block; 0 without class attention."""

    def extract(self, images: NDArray[np.uint8]) -> Features:
        """Features of (B, S, S, 3) uint8 RGB images.

        The result of an image does not depend, to the byte, on the images beside it or on B.
        """
        ...
