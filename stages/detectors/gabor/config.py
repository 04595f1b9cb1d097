"""Parameters of the Gabor baseline."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, model_validator

from stages.detectors.interface import DetectorConfig


class GaborConfig(DetectorConfig):
    """One Gaussian per position over the responses of a Gabor filter bank (baseline)."""

    baseline: ClassVar[bool] = True

    image_side: int = Field(256, ge=32, le=2048)
    """Side in pixels of the square images that the detector's own model sees.

    Images are grey."""
    grid: int = Field(32, ge=2, le=256)
    """Side of the grid of pooled filter responses, and of the anomaly map."""
    scales: int = Field(3, ge=1, le=6)
    """Number of scales. Each halves the image side; the smallest is a multiple of `grid`.

    The image side at the coarsest scale must be a multiple of `grid`."""
    orientations: int = Field(4, ge=1, le=16)
    """Orientations, spread evenly over 180 degrees."""
    wavelength: float = Field(4.0, ge=2.0, le=12.0)
    """Wavelength of the Gabor filter, in pixels of its scale."""
    sigma: float = Field(2.5, ge=0.5, le=6.0)
    """Standard deviation of the Gabor filter's envelope, in pixels of its scale.

    The filter has 13 x 13 pixels."""
    ridge: float = Field(0.01, gt=0.0, le=1.0)
    """Added to the covariance's diagonal, as a share of its mean diagonal."""
    smoothing: float = Field(1.0, ge=0.0, le=8.0)
    """Standard deviation, in grid cells, of the Gaussian filter over the map. The score is that of the smoothed map."""

    @model_validator(mode="after")
    def _sides_fit(self) -> GaborConfig:
        halvings = 2 ** (self.scales - 1)
        coarsest = self.image_side // halvings
        if self.image_side % halvings or coarsest % self.grid:
            raise ValueError(
                f"image_side {self.image_side} at {self.scales} scales is {self.image_side / halvings:g} px at the "
                f"coarsest, not a multiple of grid {self.grid}; take image_side {self.grid * halvings} or a multiple"
            )
        if coarsest < 7:  # the border is mirrored over half of the 13 px filter
            raise ValueError(
                f"the coarsest scale of image_side {self.image_side} is {coarsest} px, at least 7 are needed"
            )
        return self
