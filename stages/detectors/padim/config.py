"""Parameters of PaDiM."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from stages.detectors.shared.features import FeatureConfig


class PadimConfig(FeatureConfig):
    """A Gaussian over patch features at each position."""

    reads_backbone: ClassVar[bool] = True
    baseline: ClassVar[bool] = True

    image_side: int = Field(224, ge=64, le=1024, multiple_of=32)
    """S: side in pixels to which images are resized for `features: imagenet`; a multiple of 32."""
    shrinkage: float = Field(0.5, ge=0.0, le=1.0)
    """Share of the covariance pooled over all positions in the covariance of each; the rest is its own."""
    ridge: float = Field(1e-3, gt=0.0, le=1.0)
    """Added to the covariance's diagonal; channels have unit variance."""
    normalised: bool = False
    """Divide the distance at each position by what is usual there for a normal image that was left out, so that a
    position where good parts vary much is not where most alarms are. Off: PaDiM as it is known."""
    surroundings: int = Field(0, ge=0, le=99)
    """How many cells away the eight cells lie from which a cell's features are predicted; what the prediction leaves is
    modelled. 0: features are modelled as they come."""
    smoothing: float = Field(1.0, ge=0.0, le=8.0)
    """Deviation, in cells of the grid, of the Gaussian that smooths the anomaly map; its maximum is the image score."""
