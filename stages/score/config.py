"""Parameters of the scoring."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from stages.types import Config


class ScoreConfig(Config):
    """How the threshold is set, and how detectors are measured."""

    target_overkill: float = Field(0.05, gt=0.0, lt=1.0)
    """Largest share of good parts to reject. 0.05 needs at least 19 validation images.

    A share, 0 to 1. In general at least 1 / target_overkill - 1 validation images are needed; with fewer the metrics
    state what can be promised (`overkill_bound`). With `guarantee: confidence` more are needed."""
    guarantee: Literal["average", "confidence"] = "average"
    """What the threshold promises: `average` over many lines, or for this line with `confidence`.

    `average`: over many lines whose thresholds are set alike, at most this share of good parts is rejected; a single
    line may exceed it (`overkill_risk` in the metrics). `confidence`: the overkill of this line is at most the target
    with probability `score.confidence`. At 95 % this needs 59 validation images for 0.05, 29 for 0.1, 299 for 0.01; the
    threshold is higher, so more defects pass."""
    confidence: float = Field(0.95, gt=0.0, lt=1.0)
    """Coverage, 0 to 1, of every interval, and the confidence of `guarantee: confidence`.

    Percentile bootstrap for AUROC and AUPR, Wilson for overkill and escape; related images (groups) stay together."""
    resamples: int = Field(2000, ge=10, le=1_000_000)
    """Bootstrap resamples of the test images: of whole groups, stratified by label."""
    aupro_max_fpr: float = Field(0.3, gt=0.0, le=1.0)
    """Pixel false-positive rate, 0 to 1, up to which AUPRO is integrated.

    Bergmann et al., IJCV 2021, have 0.3."""
    pixel_side: int = Field(256, ge=8, le=2048)
    """Side in pixels to which maps and masks are resized for pixel AUROC and AUPRO."""
