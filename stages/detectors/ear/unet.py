"""A plain U-Net: Ronneberger et al., "U-Net", MICCAI 2015, which EAR uses "without any change".

Legend: B images; S side in pixels; c channels of a level, `width * 2^level`.

Deviations from the U-Net of 2015: padded convolutions, so that the output is as large as the input; batch
normalisation; width and depth are parameters; a sigmoid at the output, since images are in [0, 1].
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class UNet(nn.Module):
    """(B, 3, S, S) in [0, 1] -> (B, 3, S, S) in [0, 1]; S is a multiple of 2^depth."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        channels = [width * 2**level for level in range(depth + 1)]
        self.down = nn.ModuleList(_block(a, b) for a, b in zip([3, *channels], channels, strict=False))
        self.enlarge = nn.ModuleList(nn.ConvTranspose2d(2 * c, c, 2, stride=2) for c in channels[:-1])
        self.up = nn.ModuleList(_block(2 * c, c) for c in channels[:-1])
        self.out = nn.Conv2d(width, 3, 1)

    def forward(self, images: Tensor) -> Tensor:
        x, kept = images, []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else nn.functional.max_pool2d(x, 2))  # (B, c, S / 2^level, S / 2^level)
            kept.append(x)
        for level in reversed(range(len(self.up))):
            x = self.up[level](torch.cat([kept[level], self.enlarge[level](x)], dim=1))
        return torch.sigmoid(self.out(x))


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )
