"""Feature maps of any hierarchical network of timm (convolutional, GC ViT, Swin, ...), stacked on one grid.

Legend: B images; S image side; h, w grid (S / patch); C channels of all chosen maps together.
Source: Defard et al., PaDiM, 2021, section 3.1; Roth et al., PatchCore, CVPR 2022, section 3.1 (the 3 x 3 mean).
Deviation: finer maps are averaged over the cells of the grid, instead of enlarging all maps to the finest.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.backbone.networks.vit import Standardise
from stages.types import UserError


class FeatureMap(nn.Module):
    """The frozen network's maps of the chosen strides, standardised like those of our own CNN; without class
    attention."""

    mean: Tensor
    spread: Tensor
    model: Any
    heads = prefix_tokens = registers = 0
    block = None

    def __init__(self, model: nn.Module, image_side: int, patch: int, strides: tuple[int, ...]) -> None:
        """`model`: a model of timm that `check_map` accepts, with its weights or before they are loaded. It is changed:
        what comes after the last chosen map is dropped."""
        super().__init__()
        levels: Any = _levels(model)
        self._chosen = [levels[stride][0] for stride in strides]
        self.channels: int = sum(levels[stride][1] for stride in strides)
        self.model = model
        self.model.prune_intermediate_layers(self._chosen)
        self.grid = (image_side // patch, image_side // patch)
        settings: Any = model.pretrained_cfg
        self.register_buffer("mean", 255.0 * torch.tensor(settings["mean"]))
        self.register_buffer("spread", 255.0 * torch.tensor(settings["std"]))
        self.standardise = Standardise(self.channels)
        self.requires_grad_(False)
        self.eval()

    def stack(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) pixels in [0, 255] -> (B, C, h, w), not yet standardised."""
        pixels = (images - self.mean[:, None, None]) / self.spread[:, None, None]
        levels = self.model.forward_intermediates(
            pixels, indices=self._chosen, output_fmt="NCHW", intermediates_only=True
        )
        means = [F.avg_pool2d(level, 3, stride=1, padding=1, count_include_pad=False) for level in levels]
        return torch.cat([_to_grid(level, self.grid) for level in means], dim=1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """(B, 3, S, S) pixels in [0, 255] -> tokens (B, C, h, w), no attention."""
        return self.standardise(self.stack(images)), None


def _levels(model: Any) -> dict[int, tuple[int, int]]:
    """Stride -> index and channels of the last map with this stride; empty if timm knows no maps of the model."""
    if not hasattr(model, "forward_intermediates") or not hasattr(model, "prune_intermediate_layers"):
        return {}
    info = getattr(model, "feature_info", [])
    return {level["reduction"]: (i, level["num_chs"]) for i, level in enumerate(getattr(info, "info", info))}


def check_map(model: nn.Module, name: str, image_side: int, patch: int, strides: tuple[int, ...]) -> None:
    """Raises:
    UserError: the model has no maps, or none of a stride; the side is not a multiple of `patch`.
    """
    levels = _levels(model)
    if not levels:
        raise UserError(
            f"backbone.model: `{name}` of timm gives neither patch tokens nor feature maps; choose a ViT "
            "(`timm:vit_...`) or a network with stages (`cnn:resnet18`)"
        )
    if lacking := [stride for stride in strides if stride not in levels]:
        raise UserError(
            f"backbone.strides: `{name}` has no feature map of stride {lacking[0]}; choose among {sorted(levels)}"
        )
    if image_side % patch:
        raise UserError(f"backbone.image_side: {image_side} is not a multiple of backbone.patch {patch}")


def _to_grid(level: Tensor, grid: tuple[int, int]) -> Tensor:
    """(B, c, H, W) to (B, c, h, w): mean over the cells, or bilinear if the grid is finer."""
    if level.shape[-1] >= grid[1]:
        return F.adaptive_avg_pool2d(level, grid)
    return F.interpolate(level, grid, mode="bilinear")
