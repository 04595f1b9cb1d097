"""Parameters of the PCA baseline."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from stages.detectors.interface import DetectorConfig


class PcaConfig(DetectorConfig):
    """Reconstruction of the pixels from principal components (baseline)."""

    baseline: ClassVar[bool] = True

    image_side: int = Field(64, ge=8, le=512)
    """Side in pixels of the square images that the detector's own model sees.

    Images are grey; their pixels are the variables."""
    components: int = Field(150, ge=1, le=10_000)
    """Principal components that are kept.

    At most image_side^2, and with n images at most n - 1."""
