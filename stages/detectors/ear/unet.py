"""A plain U-Net: Ronneberger et al., "U-Net", MICCAI 2015, which EAR uses "without any change".

Legend: B images; S side in pixels or tokens; Z channels of them; c channels of a level, `width * 2^level`.

Deviations from the U-Net of 2015: padded convolutions, so that the output is as large as the input; batch
normalisation; width and depth are parameters; for pixels a sigmoid at the output, since images are in [0, 1].
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class UNet(nn.Module):
    """(B, Z, S, S) -> (B, Z, S, S): pixels in [0, 1], or reduced tokens; S is a multiple of 2^depth."""

    def __init__(self, width: int, depth: int, channels: int, pixels: bool) -> None:
        """`pixels`: whether the output is bounded to [0, 1]."""
        super().__init__()
        levels = [width * 2**level for level in range(depth + 1)]
        self._pixels = pixels
        self.down = nn.ModuleList(_block(a, b) for a, b in zip([channels, *levels], levels, strict=False))
        self.enlarge = nn.ModuleList(nn.ConvTranspose2d(2 * c, c, 2, stride=2) for c in levels[:-1])
        self.up = nn.ModuleList(_block(2 * c, c) for c in levels[:-1])
        self.out = nn.Conv2d(width, channels, 1)

    def forward(self, images: Tensor) -> Tensor:
        x, kept = images, []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else nn.functional.max_pool2d(x, 2))  # (B, c, S / 2^level, S / 2^level)
            kept.append(x)
        for level in reversed(range(len(self.up))):
            x = self.up[level](torch.cat([kept[level], self.enlarge[level](x)], dim=1))
        return torch.sigmoid(self.out(x)) if self._pixels else self.out(x)


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )
