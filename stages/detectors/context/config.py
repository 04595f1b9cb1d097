"""Parameters of `context`. The defaults and what was measured to choose them: README.md beside this file."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from stages.detectors.shared.gaussian_config import GaussianConfig


class ContextConfig(GaussianConfig):
    """What the patches around a patch do not explain of its features."""

    reads_backbone: ClassVar[bool] = True

    image_side: int = Field(384, ge=64, le=1024, multiple_of=32)
    """Side in pixels of the square images that the detector's own model sees.

    For `features: imagenet` only; a multiple of 32."""
    network: Literal["lite0", "lite1", "lite2"] = "lite2"
    """EfficientNet-Lite (ImageNet) whose feature maps of strides 4, 8 and 16 are stacked."""
    compare_features: bool = False
    """Also model the other kinds of features and report their image scores."""
    surroundings: int = Field(12, ge=1, le=99)
    """Distance, in grid cells, of the eight neighbours that predict a cell's features. The prediction is subtracted,
    which removes lot and exposure effects and keeps defects smaller than this."""
    normalised: bool = True
    """Normalise each position's distance by its leave-one-out estimate on good images: fewer alarms where these vary.
    `false`: original PaDiM."""
