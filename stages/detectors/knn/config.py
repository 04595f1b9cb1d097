"""Parameters of the nearest-neighbour detector."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from stages.detectors.shared.features import FeatureConfig, Kind


class KnnConfig(FeatureConfig):
    """Distance of each patch's features to the nearest features of good images."""

    reads_backbone: ClassVar[bool] = True

    features: Kind = "imagenet"
    """Features that are read: of the ImageNet CNN (`imagenet`), or the backbone's tokens (`raw`; denoised: `clean`)."""
    image_side: int = Field(224, ge=64, le=1024, multiple_of=32)
    """Side in pixels of the square images that the detector's own model sees.

    For `features: imagenet` only; a multiple of 32."""
    metric: Literal["spread", "euclidean", "cosine"] = "spread"
    """Distance of two features: with all channels scaled to equal `spread`, as they are (`euclidean`), or of unit
    length (`cosine`).

    `cosine` is the Euclidean distance of features of length 1, the square root of 2 - 2 cos."""
    neighbours: int = Field(1, ge=1, le=50)
    """A patch's score is its mean distance to this many nearest features of good images."""
    memory_size: int | None = Field(5000, ge=10, le=10_000_000)
    """Patch features of good images that are kept. null: all."""
    coreset: Literal["random", "greedy"] = "greedy"
    """How the memory is chosen: `random`, or `greedy`, each farthest from those before.

    `greedy` (PatchCore) keeps rare good patches and takes time."""
    coreset_pool: int = Field(50_000, ge=10, le=10_000_000)
    """Patch features sampled for `coreset: greedy` to choose from."""
    smoothing: float = Field(1.0, ge=0.0, le=8.0)
    """Standard deviation, in grid cells, of the Gaussian filter over the map. The score is that of the smoothed map."""
    top_share: float = Field(0.0, ge=0.0, le=1.0)
    """The image score is the mean of this share of the map's highest cells. 0: the highest alone."""
