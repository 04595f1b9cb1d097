"""Tokens as EAR and InTra restore them: `stages.detectors.shared.token_space` as modules of a graph.

Legend: h, w grid; C channels; Z principal components.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.detectors.shared.gaussian import Gaussian
from stages.detectors.shared.restoration_config import RestorationConfig
from stages.detectors.shared.token_space import PREFIX, TokenSpace
from stages.onnx_graphs.interface import Input, feature_input, image_input
from stages.onnx_graphs.parts import Mahalanobis, smooth
from stages.types import Samples


class TokenRest(nn.Module):
    """Reduces tokens to what a network restores, and maps what the restoration leaves of them."""

    mean: Tensor
    spread: Tensor
    components: Tensor
    scale: Tensor

    def __init__(self, arrays: Mapping[str, NDArray[Any]], config: RestorationConfig, cnn: nn.Module | None) -> None:
        super().__init__()
        space = TokenSpace.from_arrays(arrays)
        for name, value in vars(space).items():
            self.register_buffer(name, torch.from_numpy(value.copy()))
        self.shape = space.shape
        self.cnn = cnn if config.features == "imagenet" else None
        self.distance = Mahalanobis(Gaussian.from_arrays(arrays, f"{PREFIX}rest."))
        self.smooth = smooth(space.shape[:2], config.smoothing)

    def standardised(self, given: Tensor) -> Tensor:
        """(1, S, S, 3) image with a CNN, otherwise (1, h, w, C) tokens -> (h, w, C)."""
        tokens = given
        if self.cnn is not None:
            stack, _ = self.cnn(given.permute(0, 3, 1, 2).float())
            tokens = stack.permute(0, 2, 3, 1)
        return (tokens[0] - self.mean) / self.spread

    def reduce(self, standardised: Tensor) -> Tensor:
        """(h, w, C) -> (h, w, Z)."""
        return standardised @ self.components / self.scale

    def forward(self, standardised: Tensor, restored: Tensor, restored_at: Tensor | None = None) -> Tensor:
        """(h, w, C) tokens, their restoration (h, w, Z) and where it counts (h, w) -> smoothed map (h, w)."""
        plane = self.distance(standardised - restored * self.scale @ self.components.T)
        return self.smooth(plane if restored_at is None else plane * restored_at)


def restored_input(config: RestorationConfig, samples: Samples) -> Input:
    """The input of what is restored: an image, or the backbone's tokens."""
    if config.space == "pixels" or config.features == "imagenet":
        return image_input(config.input_side)
    return feature_input(config.features, samples)
