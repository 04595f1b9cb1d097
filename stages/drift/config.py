"""Parameters of the drift test."""

from __future__ import annotations

from pydantic import Field, model_validator

from stages.types import Config

TESTS = ("features", "distance", "brightness", "sharpness")
"""What is tested; the level is shared among them."""


class DriftConfig(Config):
    """When new images count as different from those that the detectors learned from."""

    level: float = Field(0.01, gt=0.0, lt=0.5)
    """False-alarm rate, 0 to 1, of all four tests together (Holm)."""
    permutations: int = Field(1999, ge=19, le=100_000)
    """Relabellings that the test of the features compares with. Its smallest p value is 1 / (permutations + 1)."""
    neighbours: int = Field(3, ge=1, le=1000)
    """An image's distance from the training set is its mean distance to this many nearest training images."""
    least: int = Field(12, ge=2, le=100_000)
    """With fewer new images, or fewer training images, there is no test: it would find next to nothing."""

    @model_validator(mode="after")
    def _can_reject(self) -> DriftConfig:
        wanted = len(TESTS) / self.level
        if self.permutations + 1 < wanted * (1 - 1e-9):
            raise ValueError(
                f"{self.permutations} permutations cannot show a drift at level {self.level:g}: "
                f"set permutations to {round(wanted) - 1} or more"
            )
        return self
