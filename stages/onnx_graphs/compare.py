"""Image against restoration in the features of an ImageNet CNN: `stages.detectors.shared.comparison` as a graph.

Legend: S side that the network sees; T side of the image; h, w grid of features; C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.detectors.interface import CompareConfig
from stages.detectors.shared.comparison import SMOOTHING
from stages.detectors.shared.gaussian import Gaussian
from stages.detectors.shared.resizing import HALF_UP, cell_shares
from stages.onnx_graphs.parts import Mahalanobis, Residual, bilinear, smooth


class FeatureComparison(nn.Module):
    """Pixels and restoration -> smoothed map (h, w): `stages.detectors.shared.comparison.Comparison`."""

    restored: Tensor
    rows: Tensor
    columns: Tensor

    def __init__(self, arrays: Mapping[str, NDArray[Any]], config: CompareConfig, cnn: nn.Module) -> None:
        super().__init__()
        gaussian = Gaussian.from_arrays(arrays, "compare.")
        grid = (gaussian.mean.shape[0], gaussian.mean.shape[1])
        self.enlarge = bilinear((config.image_side, config.image_side), config.compare_side)
        self.cnn, self.distance, self.smooth = cnn, Mahalanobis(gaussian), smooth(grid, SMOOTHING)
        self.left = Residual(grid, config.surroundings, arrays["compare.prediction"])
        self.register_buffer("restored", torch.from_numpy(arrays["compare.restored"].copy()))
        for name, cells in zip(("rows", "columns"), grid, strict=True):
            self.register_buffer(name, torch.from_numpy(cell_shares(config.image_side, cells)))

    def forward(self, pixels: Tensor, restoration: Tensor, unseen: Tensor | None = None) -> Tensor:
        """
        Args:
            pixels: (1, 3, T, T) in 0 to 255.
            restoration: (1, 3, S, S) in [0, 1]; it is rounded to grey levels.
            unseen: (S, S) true where the network restored a pixel without having seen it. None: everywhere.
        """
        enlarged = self.enlarge(restoration.mul(255).round().clamp(0, 255)).add(HALF_UP).round()
        stack, _ = self.cnn(torch.cat([pixels, enlarged]))
        image_features, restoration_features = stack.permute(0, 2, 3, 1)  # (h, w, C) each
        extra = restoration_features - self.restored
        if unseen is not None:
            extra = extra * (self.rows @ unseen.float() @ self.columns.T)[..., None]
        return self.smooth(self.distance(self.left(image_features, extra)))


def reduce_pixels(pixels: Tensor, side: int) -> Tensor:
    """`stages.detectors.shared.resizing.reduce_images` for one image: (1, 3, T, T) integers -> (1, 3, side, side)."""
    factor = pixels.shape[-1] // side
    if factor == 1:
        return pixels
    # Sums of integers are exact; a mean, multiplied by a fraction, is not.
    sums = pixels.view(1, 3, side, factor, side, factor).sum(dim=(3, 5))
    return ((sums + factor**2 // 2) / factor**2).floor()


def feature_comparison(
    arrays: Mapping[str, NDArray[Any]], config: CompareConfig, cnn: nn.Module | None
) -> FeatureComparison | None:
    """The comparison of features; None if pixels are compared."""
    return FeatureComparison(arrays, config, cnn) if config.compare == "features" and cnn is not None else None
