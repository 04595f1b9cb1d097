"""Image against restoration in the features of an ImageNet CNN, as `compare.Comparison`.

Legend: S image side; h, w grid of features; C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.detectors.compare import HALF_UP, SMOOTHING
from stages.detectors.gaussian import Gaussian
from stages.detectors.interface import CompareConfig
from stages.onnx_graphs.parts import Contrast, Mahalanobis, bilinear, smooth


class Compared(nn.Module):
    """Pixels and restoration -> smoothed map (h, w) of what the restoration's features do not explain."""

    prediction: Tensor

    def __init__(self, arrays: Mapping[str, NDArray[Any]], config: CompareConfig, cnn: nn.Module) -> None:
        super().__init__()
        gaussian = Gaussian.of(arrays, "compare.")
        grid = (gaussian.mean.shape[0], gaussian.mean.shape[1])
        self.enlarge = bilinear((config.image_side, config.image_side), config.compare_side)
        self.cnn, self.distance, self.smooth = cnn, Mahalanobis(gaussian), smooth(grid, SMOOTHING)
        self.contrast = Contrast(grid, config.contrast) if config.contrast else nn.Identity()
        self.register_buffer("prediction", torch.from_numpy(arrays["compare.prediction"].copy()))

    def forward(self, pixels: Tensor, restored: Tensor) -> Tensor:
        """(1, 3, S, S) each, the first in 0..255, the second in [0, 1]; both become whole grey levels."""
        both = torch.cat([pixels, restored.mul(255).round().clamp(0, 255)])
        stack, _ = self.cnn(self.enlarge(both).add(HALF_UP).round())
        image, restoration = stack.permute(0, 2, 3, 1)  # (h, w, C) each
        return self.smooth(self.distance(self.contrast(image - restoration @ self.prediction)))


def compared(arrays: Mapping[str, NDArray[Any]], config: CompareConfig, cnn: nn.Module | None) -> Compared | None:
    """None where the pixels themselves are compared."""
    return Compared(arrays, config, cnn) if config.compare == "features" and cnn is not None else None
