"""Pixel maps: how unlike an image and its restoration are at each pixel, and how to scale and summarise such maps.

Legend: B images of a batch; S image side in pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.detectors.shared.similarity import msgms, ssim

PixelKind = Literal["ssim", "msgms"]
PIXEL_KINDS: tuple[PixelKind, ...] = ("ssim", "msgms")


def dissimilarity(image: Tensor, restoration: Tensor, kind: PixelKind) -> Tensor:
    """1 - similarity: two (B, 3, S, S) in [0, 1] -> (B, 1, S, S)."""
    return 1 - (ssim(image, restoration) if kind == "ssim" else msgms(image, restoration))


class PixelStatistics:
    """Mean and standard deviation, at each pixel, of the pixel maps of good images, for each kind of pixel map."""

    def __init__(self, side: int) -> None:
        self._count, self._sums = 0, {kind: np.zeros((2, side, side)) for kind in PIXEL_KINDS}

    def add(self, maps: Mapping[PixelKind, NDArray[np.float32]]) -> None:
        """Add the (S, S) pixel maps of one image."""
        self._count += 1
        for kind, plane in maps.items():
            values = plane.astype(np.float64)
            self._sums[kind] += values, values**2

    def to_arrays(self, prefix: str = "") -> dict[str, NDArray[np.float32]]:
        """`<kind>.mean` and `<kind>.spread` (the standard deviation), (S, S) each, over all images added so far."""
        arrays = {}
        for kind, (mean, squares) in ((kind, sums / self._count) for kind, sums in self._sums.items()):
            arrays[f"{prefix}{kind}.mean"] = mean.astype(np.float32)
            arrays[f"{prefix}{kind}.spread"] = np.sqrt(np.maximum(squares - mean**2, 0)).astype(np.float32)
        return arrays


def pixel_scale(spread: NDArray[np.float32], mean_share: float = 1.0) -> NDArray[np.float64]:
    """(S, S) standard deviation by which a pixel map is divided.

    The mean variance of all pixels is added to each pixel's variance, so that no pixel weighs too much.

    Args:
        spread: (S, S) standard deviation of each pixel over good images.
        mean_share: share of the mean variance that is added.
    """
    variance = np.square(spread, dtype=np.float64)
    # The tiny constant prevents a division by zero if all images are identical: their maps do not vary at all.
    scale: NDArray[np.float64] = np.sqrt(variance + mean_share * variance.mean() + 1e-12)
    return scale


def to_bytes(restoration: Tensor) -> NDArray[np.uint8]:
    """(3, S, S) in [0, 1] -> (S, S, 3)."""
    return restoration.permute(1, 2, 0).mul(255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
