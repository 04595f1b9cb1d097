"""Transformer blocks with a class token, and the three networks of this project: `Hybrid`, `Plain`, `Cnn`.

Legend: B images; S image side; h, w grid; N = h * w patches; C channels; H heads; d = C / H.
Source: Dosovitskiy et al., ViT, ICLR 2021; LayerScale: Touvron et al., CaiT, ICCV 2021, eq. 4; mask token: Bao et al.,
BEiT, ICLR 2022, section 2.3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.backbone.config import BackboneConfig
from stages.backbone.networks.blocks import chosen, join
from stages.backbone.networks.lite0 import STACK_CHANNELS, Lite0

PIXELS = (127.0, 64.0)
"""Mean and standard deviation with which `Plain` normalises pixels."""


class Attention(nn.Module):
    """Self-attention that also returns the class token's attention weights."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 1 + N, C) -> the same shape, and the class token's attention weights (B, H, 1 + N) after the softmax."""
        b, n, c = x.shape
        q, k, v = (
            self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        )  # each (B, H, 1 + N, d)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c)  # (B, 1 + N, C)
        class_logits = (q[:, :, :1] * k).sum(-1) * (c // self.heads) ** -0.5  # (B, H, 1 + N)
        return self.out(mixed), class_logits.softmax(-1)


class Block(nn.Module):
    """Attention and MLP, each after a LayerNorm and scaled per channel."""

    def __init__(self, channels: int, heads: int, mlp_ratio: float, layer_scale: float) -> None:
        super().__init__()
        hidden = round(channels * mlp_ratio)
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attention = Attention(channels, heads)
        self.mlp = nn.Sequential(nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, channels))
        self.scale1 = nn.Parameter(torch.full((channels,), layer_scale))
        self.scale2 = nn.Parameter(torch.full((channels,), layer_scale))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 1 + N, C) -> the same shape, and the class token's attention (B, H, 1 + N)."""
        mixed, weights = self.attention(self.norm1(x))
        x = x + self.scale1 * mixed
        return x + self.scale2 * self.mlp(self.norm2(x)), weights


class Trunk(nn.Module):
    """Class token, position embedding and blocks."""

    def __init__(self, channels: int, config: BackboneConfig, layer_scale: float) -> None:
        super().__init__()
        side = config.image_side // config.patch
        self.class_token = nn.Parameter(0.02 * torch.randn(channels))
        self.mask_token = nn.Parameter(0.02 * torch.randn(channels))
        self.position = nn.Parameter(0.02 * torch.randn(channels, side, side))
        self.blocks = nn.ModuleList(
            Block(channels, config.heads, config.mlp_ratio, layer_scale) for _ in range(config.depth)
        )

    def position_at(self, h: int, w: int) -> Tensor:
        """(C, h, w) position embedding, resampled to another grid (bicubic; ViT, section 3.2, interpolates too)."""
        if (h, w) == tuple(self.position.shape[1:]):
            return self.position
        return F.interpolate(self.position[None], (h, w), mode="bicubic")[0]

    def forward(self, patches: Tensor, masked: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Run all blocks.

        Args:
            patches: (B, C, h, w).
            masked: (B, h, w), True where the mask token replaces the patch.

        Returns:
            Patch tokens (B, C, h, w), class token (B, C), class attention (B, H, h, w) of the last block.
        """
        *_, (x, weights) = self.states(patches, masked)
        return _grid(x[:, 1:], patches), x[:, 0], weights[..., 1:].reshape(len(x), -1, *patches.shape[2:])

    def read(self, patches: Tensor, blocks: Sequence[int]) -> tuple[list[Tensor], Tensor]:
        """Tokens (B, C, h, w) of each of the blocks, counted from 1 in ascending order, and the class attention
        (B, H, h, w) of the last of them. Blocks behind it do not run."""
        states = list(islice(self.states(patches), blocks[-1]))
        attention = states[-1][1][..., 1:].reshape(len(patches), -1, *patches.shape[2:])
        return [_grid(states[number - 1][0][:, 1:], patches) for number in blocks], attention

    def states(self, patches: Tensor, masked: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """After each block: (B, 1 + N, C), the class token first, and the class token's weights (B, H, 1 + N)."""
        if masked is not None:
            patches = torch.where(masked[:, None], self.mask_token[:, None, None], patches)
        b, c, h, w = patches.shape
        tokens = (patches + self.position_at(h, w)).flatten(2).transpose(1, 2)  # (B, N, C)
        x = torch.cat([self.class_token.expand(b, 1, c), tokens], dim=1)  # (B, 1 + N, C)
        for block in self.blocks:
            x, weights = block(x)
            yield x, weights


def _grid(tokens: Tensor, patches: Tensor) -> Tensor:
    """(B, N, C) -> (B, C, h, w), the shape of `patches`."""
    return tokens.transpose(1, 2).reshape(patches.shape)


class Standardise(nn.Module):
    """Per channel (x - mean) / spread with statistics of training images, so that all channels weigh the same in
    distances."""

    mean: Tensor
    spread: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("spread", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape."""
        return (x - self.mean[:, None, None]) / self.spread[:, None, None]


class Cnn(nn.Module):
    """The frozen CNN's stacked features, standardised."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.cnn = Lite0(config.patch, deep=False)
        self.standardise = Standardise(STACK_CHANNELS)

    def patches(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) pixels in [0, 255] -> (B, C, h, w)."""
        return self.standardise(self.cnn(images)[0])

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """(B, 3, S, S) pixels in [0, 255] -> tokens (B, C, h, w), no attention."""
        return self.patches(images), None


class Hybrid(Cnn):
    """The frozen CNN's features as the patch embedding of a trunk.

    The final norm is the standardisation before the trunk: a LayerNorm after the trunk would remove the length of a
    token, and the blocks start as the identity. Measured in README.md.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__(config)
        self.trunk = Trunk(STACK_CHANNELS, config, config.layer_scale)
        self.blocks, self.stack = chosen(config.blocks, config.depth), config.join_blocks == "stack"

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """(B, 3, S, S) pixels in [0, 255] -> tokens (B, C, h, w), class attention (B, H, h, w)."""
        tokens, attention = self.trunk.read(self.patches(images), self.blocks)
        return join(tokens, self.stack), attention


class Plain(nn.Module):
    """A small ViT."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, config.width, config.patch, stride=config.patch)
        self.trunk = Trunk(config.width, config, layer_scale=1.0)
        self.norm = nn.LayerNorm(config.width)
        self.blocks, self.stack = chosen(config.blocks, config.depth), config.join_blocks == "stack"

    def patches(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) pixels in [0, 255] -> (B, C, h, w)."""
        return self.embed((images - PIXELS[0]) / PIXELS[1])

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """(B, 3, S, S) pixels in [0, 255] -> tokens (B, C, h, w), class attention (B, H, h, w)."""
        tokens, attention = self.trunk.read(self.patches(images), self.blocks)
        normed = [self.norm(each.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) for each in tokens]
        return join(normed, self.stack), attention
