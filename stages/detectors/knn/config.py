"""Parameters of the nearest-neighbour detector."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from stages.detectors.shared.features import FeatureConfig, Kind


class KnnConfig(FeatureConfig):
    """Distance of each patch's features to the nearest of normal images."""

    reads_backbone: ClassVar[bool] = True

    features: Kind = "clean"
    """What is modelled: an ImageNet CNN's maps of images of `image_side` (`imagenet`), or the backbone's tokens, as
    they come (`raw`) or denoised (`clean`)."""
    image_side: int = Field(224, ge=64, le=1024, multiple_of=32)
    """S: side in pixels to which images are resized for `features: imagenet`; a multiple of 32."""
    neighbours: int = Field(1, ge=1, le=50)
    """A patch's score is its mean distance to this many nearest features of normal images."""
    memory_size: int = Field(5000, ge=10, le=10_000_000)
    """Patch features of normal images that are kept."""
    coreset: Literal["random", "greedy"] = "greedy"
    """How they are chosen: drawn, or each the farthest from those before (PatchCore), which keeps rare normal patches
    and costs time."""
    coreset_pool: int = Field(50_000, ge=10, le=10_000_000)
    """Patch features that are drawn for `coreset: greedy` to choose from."""
    smoothing: float = Field(1.0, ge=0.0, le=8.0)
    """Deviation, in cells of the grid, of the Gaussian that smooths the anomaly map; its maximum is the image score."""
