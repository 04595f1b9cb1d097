"""Parameters of the pretraining objectives; `distill` has none of its own beyond `BackboneConfig`."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from stages.types import Config


class DinoConfig(Config):
    """Self-distillation between views of an image (Caron et al., ICCV 2021). `selfpatch` and `sdssl` read it too."""

    global_views: int = Field(4, ge=2, le=64)
    """Full-size crops per image; a step uses two. Images sampled: `crops` divided by this."""
    local_pool: int = Field(8, ge=0, le=64)
    """Small crops per image."""
    local_views: int = Field(4, ge=0, le=64)
    """Small crops that a step uses per image; 0: none (paper: 8)."""
    local_side: int = Field(96, ge=32, le=1024)
    """Side in pixels of a resized small crop, a multiple of 32 (paper: 96, beside 224)."""
    local_scale: float = Field(0.1, gt=0.0, le=1.0)
    """Smallest area of a small crop, as a share of the image (paper: 0.05).

    The largest is `crop_scale`."""
    jitter: float = Field(0.2, ge=0.0, le=0.9)
    """Brightness and contrast are each multiplied by a factor within 1 +- this (paper: 0.4).

    Images of one inspection differ less in exposure than photographs."""
    blur: float = Field(0.5, ge=0.0, le=1.0)
    """Probability of blurring a crop (paper: 1, 0.1, 0.5 for first, second, small crops)."""
    prototypes: int = Field(1024, ge=2, le=65_536)
    """K: outputs of the projection head (paper: 65,536, for a million images)."""
    hidden: int = Field(512, ge=8, le=8192)
    """Units of the head's two hidden layers (paper: 2048)."""
    bottleneck: int = Field(128, ge=2, le=2048)
    """Units before the head's last layer, scaled to length 1 (paper: 256)."""
    momentum: float = Field(0.99, ge=0.0, lt=1.0)
    """Share of its weights that the teacher keeps at the first step; it rises to 1.

    It rises along a cosine. The paper has 0.996 for some 100,000 steps; in a few hundred steps the teacher would hardly
    leave its start."""
    centre_momentum: float = Field(0.9, ge=0.0, lt=1.0)
    """Share of the centre that is kept at each step (the paper's)."""
    student_temperature: float = Field(0.1, gt=0.0, le=1.0)
    """The student's logits are divided by this (the paper's)."""
    teacher_temperature: float = Field(0.04, gt=0.0, le=1.0)
    """The teacher's logits are divided by this after the warm-up.

    From the authors' code. The paper has 0.07, with which the loss hardly fell (objectives/README.md)."""
    first_temperature: float = Field(0.04, gt=0.0, le=1.0)
    """The teacher's temperature at the first step; then it changes linearly (the paper's).

    It reaches `teacher_temperature` after the warm-up."""
    temperature_warmup: float = Field(0.3, ge=0.0, le=1.0)
    """Share of the steps in which that temperature changes (paper: 30 of 100 to 800 epochs)."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.local_views > self.local_pool:
            raise ValueError(f"local_views {self.local_views} are more than local_pool {self.local_pool}")
        if self.local_side % 32:
            raise ValueError(f"local_side {self.local_side} is not a multiple of 32")
        return self


class SelfpatchConfig(Config):
    """`dino`, and each patch predicts its most similar neighbours (Yun et al., CVPR 2022)."""

    neighbours: int = Field(4, ge=1, le=8)
    """Most similar of a patch's 3 x 3 neighbours that are aggregated (the paper's).

    At a corner there are only 3."""
    weight: float = Field(0.1, ge=0.0, le=100.0)
    """Weight of the patches' loss, relative to the views' (the authors')."""
    prototypes: int = Field(512, ge=2, le=65_536)
    """Outputs of the patches' projection head (authors: 4096)."""
    blocks: int = Field(1, ge=1, le=8)
    """Blocks of the attention that aggregates (authors: 2)."""


class SdsslConfig(Config):
    """`dino`, and intermediate blocks predict the last block's output (Jang et al., 2021)."""

    ratio: float = Field(1.0, ge=0.0, le=100.0)
    """Weight of the intermediate blocks' mean loss, relative to the last block's.

    The value is the authors'."""
    first_block: int = Field(1, ge=1, le=24)
    """First block, counted from 1, that learns from the last block (authors: 1).

    The blocks between them learn from it too."""


class MfmConfig(Config):
    """Frequencies of an image are masked and predicted (Xie et al., ICLR 2023)."""

    radius: float = Field(16 / 224, gt=0.0, le=0.5)
    """Radius between low and high frequencies, as a share of the side (paper: 16/224).

    The side is that of the crop."""
    low_pass: float = Field(0.5, ge=0.0, le=1.0)
    """Probability that the low frequencies are shown, not the high ones (the paper's)."""
