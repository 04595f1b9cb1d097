"""Tokens averaged over the parts of a coarse grid."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stages.types import Rows, batches

_READ = 64
"""Images read at a time."""


def pool_tokens(tokens: Rows, side: int, channels: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
    """Average tokens over a coarse grid: (N, h, w, C) -> (N, h', w', d) with h' = min(h, side), w' = min(w, side).

    Args:
        channels: (d,) indices of the channels to read; None: all.
    """
    n, h, w, c = tokens.shape
    # first row of each band of rows, first column of each band of columns
    rows, columns = (np.linspace(0, size, min(size, side) + 1).round().astype(int)[:-1] for size in (h, w))
    area = np.outer(np.diff([*rows, h]), np.diff([*columns, w]))[..., None]
    pooled = np.empty((n, len(rows), len(columns), c if channels is None else len(channels)), np.float32)
    for part in batches(n, _READ):
        values = tokens[part].astype(np.float32)
        values = values if channels is None else values[..., channels]
        pooled[part] = np.add.reduceat(np.add.reduceat(values, rows, 1), columns, 2) / area
    return pooled
