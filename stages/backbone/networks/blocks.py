"""Which transformer blocks are read, and how the tokens of several become one.

Legend: B images; h, w grid; C channels; k chosen blocks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def chosen(blocks: Sequence[int] | None, depth: int) -> tuple[int, ...]:
    """The blocks that are read, counted from 1; the last of `depth` if none is named."""
    return (depth,) if blocks is None else tuple(blocks)


def join(tokens: Sequence[Tensor], stack: bool) -> Tensor:
    """k times (B, C, h, w) -> their mean, or stacked: (B, k * C, h, w)."""
    if len(tokens) == 1:
        return tokens[0]
    return torch.cat(tuple(tokens), dim=1) if stack else torch.stack(tuple(tokens)).mean(0)
