"""Parameters of PaDiM."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from stages.detectors.shared.gaussian_config import GaussianConfig


class PadimConfig(GaussianConfig):
    """One Gaussian per image position over patch features (baseline)."""

    reads_backbone: ClassVar[bool] = True
    baseline: ClassVar[bool] = True

    image_side: int = Field(224, ge=64, le=1024, multiple_of=32)
    """Side in pixels of the square images that the detector's own model sees.

    For `features: imagenet` only; a multiple of 32."""
