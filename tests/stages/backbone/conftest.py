"""Small images and a small configuration."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stages.backbone.config import BackboneConfig

SIDE = 64
SMALL: dict[str, Any] = {
    "image_side": SIDE,
    "crop_side": SIDE,
    "depth": 2,
    "width": 32,
    "steps": 3,
    "batch": 4,
    "crops": 6,
}


def small(**changes: Any) -> BackboneConfig:
    return BackboneConfig(**{**SMALL, **changes})


def textures(count: int, seed: int, side: int = SIDE) -> NDArray[np.uint8]:
    """(count, side, side, 3) smooth random textures."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, side // 8, side // 8, 3))
    noise = rng.integers(-20, 21, (count, side, side, 3))
    return (coarse.repeat(8, 1).repeat(8, 2) + noise).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def train() -> NDArray[np.uint8]:
    return textures(5, 0)


@pytest.fixture(scope="session")
def validation() -> NDArray[np.uint8]:
    return textures(2, 1)
