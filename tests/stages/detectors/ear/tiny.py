"""Eight tiny images with tokens and attention: striped, noisy, and for `defective` a bright square with odd tokens."""

from __future__ import annotations

from typing import Any

import numpy as np

from stages.detectors.ear.config import EarConfig
from stages.types import Samples

SIDE, GRID = 16, 4
DEFECT = slice(4, 12)
"""Rows and columns of the square: patches 1 and 2 of the grid."""


def config(**changes: Any) -> EarConfig:
    small = {
        "space": "pixels",
        "image_side": SIDE,
        "width": 4,
        "depth": 1,
        "epochs": 3,
        "batch": 4,
        "mosaic_scales": (2, 4),
        "mask_fraction": 0.25,
        "hint_tolerance": 0.5,
        "memory_size": 60,
        "neighbours": 2,
        "compare": "msgms",
    }
    return EarConfig(**{**small, **changes})


def samples(count: int, seed: int, defective: bool = False) -> Samples:
    generator = np.random.default_rng(seed)
    stripes = np.where(np.arange(SIDE) % 4 < 2, 90, 160)[None, None, :, None]
    images = stripes + generator.normal(0, 8, (count, SIDE, SIDE, 3))
    tokens = generator.normal(size=(count, GRID, GRID, 6))
    attention = generator.random((count, 2, GRID, GRID)) * 0.05
    if defective:
        images[:, DEFECT, DEFECT] = generator.integers(0, 2, (count, 8, 8, 1)) * 250
        tokens[:, 1:3, 1:3] += 5
        attention[:, :, 1:3, 1:3] += 0.1
    return Samples(
        ids=[f"{seed}-{i}" for i in range(count)],
        images=images.clip(0, 255).astype(np.uint8),
        raw=tokens.astype(np.float16),
        clean=(tokens * 0.5 + 1).astype(np.float16),
        attention=attention.astype(np.float16),
    )
