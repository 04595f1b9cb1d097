"""Parameters of the scoring."""

from __future__ import annotations

from pydantic import Field

from stages.types import Config


class ScoreConfig(Config):
    """How detectors are calibrated and measured."""

    target_overkill: float = Field(0.05, gt=0.0, lt=1.0)
    """Share of good parts, 0..1, that the deployed threshold may reject at most. Fewer than 1 / target_overkill - 1
    validation images cannot promise it; the promise that they can make is then in the metrics (`overkill_bound`)."""
    confidence: float = Field(0.95, gt=0.0, lt=1.0)
    """Coverage, 0..1, of every interval: percentile bootstrap for AUROC and AUPR, Wilson for the two rates."""
    resamples: int = Field(2000, ge=10, le=1_000_000)
    """Resamples of the stratified bootstrap over test images."""
    aupro_max_fpr: float = Field(0.3, gt=0.0, le=1.0)
    """Pixel false-positive rate up to which AUPRO is integrated, 0..1 (Bergmann et al., IJCV 2021: 0.3)."""
    pixel_side: int = Field(256, ge=8, le=2048)
    """Side, in pixels, of the square to which maps and masks are brought for pixel AUROC and AUPRO."""
