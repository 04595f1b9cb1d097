"""Parameters of the fusion."""

from __future__ import annotations

from pydantic import Field

from stages.types import Config


class FusedConfig(Config):
    """Mean of several detectors after rank normalization on good validation images."""

    detectors: tuple[str, ...] = ("context", "knn")
    """Detectors whose scores and maps are averaged. With fewer than two: no fusion.

    Only those that are in `detectors` count."""
    map_pixels: int = Field(4096, ge=16, le=1_000_000)
    """Pixels per validation image that the maps' rank normalization is fitted on.

    They are spread evenly over the map."""
