"""Parameters of the subspace detector."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from stages.detectors.shared.features import FeatureConfig, Kind


class SubspaceConfig(FeatureConfig):
    """What the principal components of good images' patch features do not explain."""

    reads_backbone: ClassVar[bool] = True

    features: Kind = "raw"
    """Features that are read: of the ImageNet CNN (`imagenet`), or the backbone's tokens (`raw`; denoised: `clean`)."""
    image_side: int = Field(224, ge=64, le=1024, multiple_of=32)
    """Side in pixels of the square images that the detector's own model sees.

    For `features: imagenet` only; a multiple of 32."""
    explained: float = Field(0.99, gt=0.0, lt=1.0)
    """Share of the variance that the kept components explain; the fewest that do are kept (paper: 0.99)."""
    smoothing: float = Field(1.0, ge=0.0, le=8.0)
    """Standard deviation, in grid cells, of the Gaussian filter over the map. The score is that of the smoothed map."""
    top_share: float = Field(0.01, ge=0.0, le=1.0)
    """The image score is the mean of this share of the map's highest cells. 0: the highest alone."""
