"""The hint: a mosaic of what is cut out takes their place (EAR: visual obfuscation).

Legend: B images; S side in pixels or tokens; Z channels of them.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

NO_HINT = 0
"""The mosaic scale that means an empty cut, filled with zeros."""


def mosaic(images: Tensor, scale: int) -> Tensor:
    """Replace each cell of `scale` x `scale` pixels by the mean of its pixels. The border may cut cells.

    Args:
        images: (B, Z, S, S).
        scale: side of a cell in pixels; cells start at the upper left corner.
    """
    height, width = images.shape[-2:]
    cells = F.avg_pool2d(images, scale, ceil_mode=True, count_include_pad=False)
    return cells.repeat_interleave(scale, -2).repeat_interleave(scale, -1)[..., :height, :width]


def excise(images: Tensor, masks: Tensor, scale: int) -> Tensor:
    """Replace the pixels under the mask by the hint.

    Args:
        images: (B, Z, S, S).
        masks: (B, 1, S, S) bool, true for the pixels to replace.
        scale: side of a mosaic cell in pixels, or `NO_HINT` for zeros.
    """
    return torch.where(masks, torch.zeros_like(images) if scale == NO_HINT else mosaic(images, scale), images)


def choose_scale(errors: Mapping[int, float], tolerance: float) -> int:
    """The coarsest scale whose restoration error is at most (1 + tolerance) times that of the finest scale.

    Args:
        errors: mosaic scale -> mean restoration error, at least one entry.
    """
    limit = (1 + tolerance) * errors[min(errors)]
    return max(scale for scale, error in errors.items() if error <= limit)
