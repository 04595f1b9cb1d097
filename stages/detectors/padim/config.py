"""Parameters of PaDiM."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from stages.detectors.shared.features import FeatureConfig


class PadimConfig(FeatureConfig):
    """One Gaussian per image position over patch features (baseline)."""

    reads_backbone: ClassVar[bool] = True
    baseline: ClassVar[bool] = True

    image_side: int = Field(224, ge=64, le=1024, multiple_of=32)
    """Side in pixels of the square images that the detector's own model sees.

    For `features: imagenet` only; a multiple of 32."""
    shrinkage: float = Field(0.5, ge=0.0, le=1.0)
    """Share of the covariance pooled over all positions in each position's covariance."""
    ridge: float = Field(1e-3, gt=0.0, le=1.0)
    """Added to the covariance's diagonal; channels have unit variance."""
    normalised: bool = False
    """Normalise each position's distance by its leave-one-out estimate on good images: fewer alarms where these vary.
    `false`: original PaDiM."""
    surroundings: int = Field(0, ge=0, le=99)
    """Distance, in grid cells, of the eight neighbours that predict a cell's features. The prediction is subtracted,
    which removes lot and exposure effects and keeps defects smaller than this. 0: no neighbours."""
    smoothing: float = Field(1.0, ge=0.0, le=8.0)
    """Standard deviation, in grid cells, of the Gaussian filter over the map. The score is that of the smoothed map."""
