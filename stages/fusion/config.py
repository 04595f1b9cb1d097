"""Parameters of the fusion."""

from __future__ import annotations

from pydantic import Field

from stages.types import Config


class FusedConfig(Config):
    """Mean of the chosen detectors, each calibrated on good validation images alone."""

    detectors: tuple[str, ...] = ("ear", "intra", "padim")
    """Whose scores and maps are averaged, as far as they are among `detectors`. With fewer than two: no fusion."""
    map_pixels: int = Field(4096, ge=16, le=1_000_000)
    """Pixels of each validation image's map, evenly spread, that calibrate the maps."""
