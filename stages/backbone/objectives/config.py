"""Parameters of the pretraining objectives; `distill` has none of its own beyond `BackboneConfig`."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from stages.types import Config


class DinoConfig(Config):
    """Self-distillation between views of an image; `selfpatch` and `sdssl` read it too (Caron et al., ICCV 2021)."""

    global_views: int = Field(4, ge=2, le=64)
    """Crops of full size drawn of each image; `crops` / this many images are drawn. A step takes two of them."""
    local_pool: int = Field(8, ge=0, le=64)
    """Small crops drawn of each image."""
    local_views: int = Field(4, ge=0, le=64)
    """Small crops that a step takes of these for each image; 0: the two full ones alone (the paper: 8)."""
    local_side: int = Field(96, ge=32, le=1024)
    """Side in pixels to which a small crop is resized, a multiple of 32 (the paper's, beside 224)."""
    local_scale: float = Field(0.1, gt=0.0, le=1.0)
    """Least area of a small crop over that of the image (the paper: 0.05); the most is `crop_scale`."""
    jitter: float = Field(0.2, ge=0.0, le=0.9)
    """Brightness and contrast of a crop are each multiplied by a factor within 1 - this and 1 + this (the paper: 0.4;
    images of one inspection differ less in exposure than photographs)."""
    blur: float = Field(0.5, ge=0.0, le=1.0)
    """Probability that a crop is blurred (the paper: 1, 0.1 and 0.5 for the first, second and small crops)."""
    prototypes: int = Field(1024, ge=2, le=65_536)
    """K, outputs of the projection head (the paper: 65,536, for a million images)."""
    hidden: int = Field(512, ge=8, le=8192)
    """Units of the head's two hidden layers (the paper: 2048)."""
    bottleneck: int = Field(128, ge=2, le=2048)
    """Units before the last layer, scaled to length 1 (the paper: 256)."""
    momentum: float = Field(0.99, ge=0.0, lt=1.0)
    """Share of its old weights that the teacher keeps at the first step; it rises to 1 along a cosine. The paper has
    0.996 for some 100,000 steps; in a few hundred the teacher would hardly leave its start."""
    centre_momentum: float = Field(0.9, ge=0.0, lt=1.0)
    """Share of the old centre that is kept at each step (the paper's)."""
    student_temperature: float = Field(0.1, gt=0.0, le=1.0)
    """The student's logits are divided by it (the paper's)."""
    teacher_temperature: float = Field(0.04, gt=0.0, le=1.0)
    """The teacher's logits are divided by it after the warm-up (the authors' code; the paper: 0.07, with which the
    loss hardly fell, README.md beside this file)."""
    first_temperature: float = Field(0.04, gt=0.0, le=1.0)
    """The teacher's at the first step, from where it goes evenly to `teacher_temperature` (the paper's)."""
    temperature_warmup: float = Field(0.3, ge=0.0, le=1.0)
    """Share of the steps that this takes (the paper: 30 of 100 to 800 epochs)."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.local_views > self.local_pool:
            raise ValueError(f"local_views {self.local_views} are more than local_pool {self.local_pool}")
        if self.local_side % 32:
            raise ValueError(f"local_side {self.local_side} is not a multiple of 32")
        return self


class SelfpatchConfig(Config):
    """`dino` and, beside it, that each patch predicts what its most similar neighbours say (Yun et al., CVPR 2022)."""

    neighbours: int = Field(4, ge=1, le=8)
    """The most similar of a patch's 3 x 3 neighbours that are aggregated (the paper's; at a corner there are 3)."""
    weight: float = Field(0.1, ge=0.0, le=100.0)
    """Weight of the patches' loss beside the views' (the authors')."""
    prototypes: int = Field(512, ge=2, le=65_536)
    """Outputs of the patches' projection head (the authors': 4096)."""
    blocks: int = Field(1, ge=1, le=8)
    """Blocks of the attention that aggregates (the authors': 2)."""


class SdsslConfig(Config):
    """`dino` and, beside it, that intermediate blocks predict the last one's output (Jang et al., 2021)."""

    ratio: float = Field(1.0, ge=0.0, le=100.0)
    """Weight of the intermediate blocks' mean loss beside the last block's (the authors')."""
    first_block: int = Field(1, ge=1, le=24)
    """The blocks from this one on, but the last, learn from the last; counted from 1 (the authors': all)."""


class MfmConfig(Config):
    """Frequencies of an image are masked and predicted (Xie et al., ICLR 2023)."""

    radius: float = Field(16 / 224, gt=0.0, le=0.5)
    """Radius of the circle between low and high frequencies, over the crop's side (the paper: 16 of 224)."""
    low_pass: float = Field(0.5, ge=0.0, le=1.0)
    """Probability that the low frequencies are what is seen; else the high ones are (the paper's)."""
