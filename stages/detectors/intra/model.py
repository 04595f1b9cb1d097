"""The inpainting transformer (arXiv:2104.13897, section 3.1).

Legend: B windows; T = L * L tokens of a window; D width; A heads; P values of a patch; G grid side.

Choices that the paper leaves open: the embedding E and the projection after attention are plain linear maps (the first
without a bias); there is no norm before the mean over the tokens; weights have the initial values of PyTorch's linear
layers; the painted patch starts at mid-grey (0.5) instead of black, which saves training steps.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from stages.detectors.intra.canvas import Canvas
from stages.detectors.intra.config import IntraConfig


class FeatureSelfAttention(nn.Module):
    """MFSA: queries and keys from MLPs (D -> 2D -> D/2 over all heads), values from a linear map (section 3.1)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = _mlp(width, 2 * width, width // 2)
        self.key = _mlp(width, 2 * width, width // 2)
        self.value = nn.Linear(width, width)
        self.project = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        q, k, v = (self._split(part(x)) for part in (self.query, self.key, self.value))
        mixed = scaled_dot_product_attention(q, k, v)  # (B, A, T, D / A)
        return self.project(mixed.transpose(1, 2).flatten(2))  # (B, T, A, D / A) -> (B, T, D)

    def _split(self, x: Tensor) -> Tensor:
        """(B, T, A * d) -> (B, A, T, d)."""
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


class Block(nn.Module):
    """Pre-norm transformer block with MFSA."""

    def __init__(self, width: int, heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = FeatureSelfAttention(width, heads)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = _mlp(width, mlp_ratio * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        x = x + self.attention(self.norm_attention(x))
        return x + self.mlp(self.norm_mlp(x))


def _mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, outputs))


class InpaintingTransformer(nn.Module):
    """Paints the covered patch of a window from its visible patches."""

    def __init__(self, config: IntraConfig, canvas: Canvas) -> None:
        super().__init__()
        values, width = canvas.values, config.width
        self.embed = nn.Linear(values, width, bias=False)
        self.position = nn.Parameter(torch.randn(canvas.grid**2, width) * 0.02)
        self.inpaint = nn.Parameter(torch.randn(width) * 0.02)
        self.blocks = nn.ModuleList(Block(width, config.heads, config.mlp_ratio) for _ in range(config.blocks))
        self.paint = nn.Linear(width, values)
        nn.init.constant_(self.paint.bias, canvas.start)

    def forward(self, pixels: Tensor, positions: Tensor, covered: Tensor) -> Tensor:
        """Paint the covered patches.

        Args:
            pixels: (B, T, P), pixels in [0, 1] or reduced tokens; the values of the covered patch are not read.
            positions: (B, T) flat positions in the grid of the whole image.
            covered: (B,) index of the covered token.

        Returns:
            (B, P), pixels about in [0, 1], not clipped, or reduced tokens.
        """
        hidden = torch.arange(pixels.shape[1], device=pixels.device) == covered[:, None]  # (B, T)
        x = torch.where(hidden[..., None], self.inpaint, self.embed(pixels)) + self.position[positions]
        outputs: list[Tensor] = []
        count = len(self.blocks)
        for number, block in enumerate(self.blocks, start=1):
            # Long residuals: the output of block i is added to the input of block n - i. Blocks count from 1. For odd n
            # the innermost pair is adjacent, and the rule, as the paper writes it, doubles that input.
            partner = count - number
            if 1 <= partner < number:
                x = x + outputs[partner - 1]
            x = block(x)
            outputs.append(x)
        return self.paint(x.mean(dim=1))  # (B, T, D) -> (B, D) -> (B, P)


def build(config: IntraConfig, canvas: Canvas, seed: int) -> InpaintingTransformer:
    """A new network whose weights depend on the arguments only."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return InpaintingTransformer(config, canvas)
