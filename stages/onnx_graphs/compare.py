"""Image against restoration in the features of an ImageNet CNN, as `compare.Comparison`.

Legend: S side of what the network sees, T of the image; h, w grid of features; C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.detectors.interface import CompareConfig
from stages.detectors.shared.comparison import HALF_UP, SMOOTHING, share_of
from stages.detectors.shared.gaussian import Gaussian
from stages.onnx_graphs.parts import Left, Mahalanobis, bilinear, smooth


class Compared(nn.Module):
    """Pixels and restoration -> smoothed map (h, w) of what neither the restoration nor the surroundings explain."""

    restored: Tensor
    rows: Tensor
    columns: Tensor

    def __init__(self, arrays: Mapping[str, NDArray[Any]], config: CompareConfig, cnn: nn.Module) -> None:
        super().__init__()
        gaussian = Gaussian.of(arrays, "compare.")
        grid = (gaussian.mean.shape[0], gaussian.mean.shape[1])
        self.enlarge = bilinear((config.image_side, config.image_side), config.compare_side)
        self.cnn, self.distance, self.smooth = cnn, Mahalanobis(gaussian), smooth(grid, SMOOTHING)
        self.left = Left(grid, config.surroundings, arrays["compare.prediction"])
        self.register_buffer("restored", torch.from_numpy(arrays["compare.restored"].copy()))
        for name, cells in zip(("rows", "columns"), grid, strict=True):
            self.register_buffer(name, torch.from_numpy(share_of(config.image_side, cells)))

    def forward(self, pixels: Tensor, restored: Tensor, unseen: Tensor | None = None) -> Tensor:
        """Pixels (1, 3, T, T) in 0..255, restoration (1, 3, S, S) in [0, 1], which becomes whole grey levels; where it
        was painted unseen, (S, S)."""
        painted = self.enlarge(restored.mul(255).round().clamp(0, 255)).add(HALF_UP).round()
        stack, _ = self.cnn(torch.cat([pixels, painted]))
        image, restoration = stack.permute(0, 2, 3, 1)  # (h, w, C) each
        explained = restoration - self.restored
        if unseen is not None:
            explained = explained * (self.rows @ unseen.float() @ self.columns.T)[..., None]
        return self.smooth(self.distance(self.left(image, explained)))


def reduced(pixels: Tensor, side: int) -> Tensor:
    """`stages.detectors.compare.reduced`: (1, 3, T, T) whole numbers -> (1, 3, side, side)."""
    factor = pixels.shape[-1] // side
    if factor == 1:
        return pixels
    # sums of whole numbers are exact, a mean taken by a factor is not
    sums = pixels.view(1, 3, side, factor, side, factor).sum(dim=(3, 5))
    return ((sums + factor**2 // 2) / factor**2).floor()


def compared(arrays: Mapping[str, NDArray[Any]], config: CompareConfig, cnn: nn.Module | None) -> Compared | None:
    """None where the pixels themselves are compared."""
    return Compared(arrays, config, cnn) if config.compare == "features" and cnn is not None else None
