"""Parameters of the scoring."""

from __future__ import annotations

from pydantic import Field

from stages.types import Config


class ScoreConfig(Config):
    """How the threshold is set, and how detectors are measured."""

    target_overkill: float = Field(0.05, gt=0.0, lt=1.0)
    """Largest share of good parts to reject. 0.05 needs at least 19 validation images.

    A share, 0 to 1. In general at least 1 / target_overkill - 1 validation images are needed; with fewer the metrics
    state what can be promised (`overkill_bound`)."""
    confidence: float = Field(0.95, gt=0.0, lt=1.0)
    """Coverage, 0 to 1, of every confidence interval.

    Percentile bootstrap for AUROC and AUPR, Wilson for overkill and escape."""
    resamples: int = Field(2000, ge=10, le=1_000_000)
    """Bootstrap resamples of the test images, stratified by label."""
    aupro_max_fpr: float = Field(0.3, gt=0.0, le=1.0)
    """Pixel false-positive rate, 0 to 1, up to which AUPRO is integrated.

    Bergmann et al., IJCV 2021, have 0.3."""
    pixel_side: int = Field(256, ge=8, le=2048)
    """Side in pixels to which maps and masks are resized for pixel AUROC and AUPRO."""
