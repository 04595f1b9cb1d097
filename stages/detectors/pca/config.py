"""Parameters of the PCA floor."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from stages.detectors.interface import DetectorConfig


class PcaConfig(DetectorConfig):
    """Reconstruction of the pixels from principal components."""

    baseline: ClassVar[bool] = True

    image_side: int = Field(64, ge=8, le=512)
    """Side in pixels of the grey image whose pixels are the variables."""
    components: int = Field(150, ge=1, le=10_000)
    """Principal components kept; with n images at most n - 1 exist, and at most image_side squared."""
