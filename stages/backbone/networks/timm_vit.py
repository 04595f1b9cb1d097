"""Any ViT of timm behind the same forward pass: tokens and class attention of chosen blocks.

Legend: B images; S image side; h, w grid; N = h * w patches; P prefix tokens (class token, registers); C channels; H
heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from stages.backbone.networks.blocks import chosen, join
from stages.types import UserError


def is_vit(model: Any) -> bool:
    """Whether the model keeps one grid of patch tokens throughout, as `TimmVit` requires."""
    grid = getattr(getattr(model, "patch_embed", None), "grid_size", None)
    return grid is not None and all(
        hasattr(model, n) for n in ("blocks", "norm", "num_prefix_tokens", "forward_intermediates")
    )


class TimmVit(nn.Module):
    """Patch tokens of blocks after the final norm, and the last one's class attention if there is a class token.

    Tokens of an earlier block pass through the same final norm, as DINO and DVT read them (DINO's
    `get_intermediate_layers`).
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, model: nn.Module, blocks: Sequence[int] | None = None, stack: bool = False) -> None:
        """`model`: a model of timm that `check_vit` accepts, with its weights or before they are loaded. It is changed:
        blocks after the last of `blocks` are dropped."""
        super().__init__()
        vit: Any = model
        self.blocks, self.stack = chosen(blocks, len(vit.blocks)), stack
        vit.blocks = vit.blocks[: self.blocks[-1]]
        self.vit = vit
        attention: Any = getattr(vit.blocks[-1], "attn", None)
        # In every ViT of timm with a class token, this token is the first prefix token.
        readable = hasattr(attention, "fused_attn") and isinstance(getattr(attention, "attn_drop", None), nn.Module)
        self.heads: int = attention.num_heads if readable and getattr(vit, "cls_token", None) is not None else 0
        if self.heads:
            attention.fused_attn = False  # the fused kernel does not compute the attention weights
            attention.attn_drop.register_forward_hook(self._keep)
        self._weights: Tensor | None = None
        self.grid: tuple[int, int] = (vit.patch_embed.grid_size[0], vit.patch_embed.grid_size[1])
        self.channels: int = vit.num_features * (len(self.blocks) if stack else 1)
        self.prefix_tokens: int = vit.num_prefix_tokens
        registers = getattr(vit, "reg_token", None)
        self.registers: int = 0 if registers is None else registers.shape[1]
        settings = vit.pretrained_cfg
        self.register_buffer("mean", 255.0 * torch.tensor(settings["mean"]))
        self.register_buffer("spread", 255.0 * torch.tensor(settings["std"]))
        self.requires_grad_(False)
        self.eval()

    def _keep(self, _module: nn.Module, _inputs: Any, weights: Tensor) -> None:
        # (B, H, P + N, P + N) after the softmax; dropout is the identity in evaluation. A copy, so the rest is freed.
        self._weights = weights[:, :, 0, self.prefix_tokens :].clone()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """(B, 3, S, S) pixels in [0, 255] -> tokens (B, C, h, w), class attention (B, H, h, w) or None."""
        pixels = (images - self.mean[:, None, None]) / self.spread[:, None, None]
        indices = [block - 1 for block in self.blocks]
        outputs = self.vit.forward_intermediates(
            pixels, indices=indices, norm=True, output_fmt="NLC", intermediates_only=True
        )  # of each block (B, N, C)
        if isinstance(self.vit.norm, nn.Identity):  # models that pool the mean have their last norm after pooling
            outputs = [self.vit.fc_norm(x) for x in outputs]
        tokens = [x.transpose(1, 2).reshape(len(x), -1, *self.grid) for x in outputs]
        weights, self._weights = self._weights, None
        return join(tokens, self.stack), None if weights is None else weights.reshape(len(images), -1, *self.grid)


def check_vit(model: Any, name: str, image_side: int, blocks: Sequence[int] | None) -> None:
    """Raises:
    UserError: the side is not a multiple of the patch size, or the model has fewer blocks.
    """
    patch: int = model.feature_info[-1]["reduction"]
    if image_side % patch:
        raise UserError(f"backbone.image_side: {image_side} is not a multiple of the patch size {patch} of `{name}`")
    if blocks is not None and blocks[-1] > len(model.blocks):
        raise UserError(f"backbone.blocks: {blocks[-1]} is beyond the {len(model.blocks)} blocks of `{name}`")
