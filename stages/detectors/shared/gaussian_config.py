"""Parameters of detectors with a Gaussian per position."""

from __future__ import annotations

from pydantic import Field

from stages.detectors.shared.features import FeatureConfig


class GaussianConfig(FeatureConfig):
    """Parameters of a detector with a Gaussian per position."""

    shrinkage: float = Field(0.5, ge=0.0, le=1.0)
    """Share of the covariance pooled over all positions in each position's covariance."""
    ridge: float = Field(1e-3, gt=0.0, le=1.0)
    """Added to the covariance's diagonal; channels have unit variance."""
    smoothing: float = Field(1.0, ge=0.0, le=8.0)
    """Standard deviation, in grid cells, of the Gaussian filter over the map. The score is that of the smoothed map."""
    normalised: bool = False
    """Normalise each position's distance by its leave-one-out estimate on good images: fewer alarms where these vary.
    `false`: original PaDiM."""
