"""Parameters of InTra. The defaults are a small network for minutes on two cores; the paper's size is named per field.

Source: Pirnay and Chai, "Inpainting Transformer for Anomaly Detection", 2021, arXiv:2104.13897 (below: the paper).
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from stages.detectors.interface import CompareConfig
from stages.types import UserError


class IntraConfig(CompareConfig):
    """Inpainting Transformer: each patch is painted anew from the patches around it."""

    image_side: int = Field(64, ge=8, le=4096)
    """S: side in pixels of the image that the network sees; a multiple of `patch_side`. Paper: 256, 320 or 512."""
    compare_side: int = Field(384, ge=64, le=1024, multiple_of=32)
    """For `compare: features`: side in pixels at which the image is compared with its restoration, which is enlarged to
    it; a multiple of 32 and of `image_side`."""
    surroundings: int = Field(12, ge=0, le=99)
    """For `compare: features`: how many cells away the eight cells lie from which, beside the restoration, a cell's
    features are predicted; what is left counts. Lot and exposure fall out, smaller defects stay. 0: none."""
    patch_side: int = Field(8, ge=2, le=128)
    """K: side in pixels of a patch, the unit that is covered and painted anew. Paper: 16."""
    window_side: int = Field(5, ge=2, le=64)
    """L: side in patches of the window that the network sees; at most the grid's, S / K. Paper: 7."""
    blocks: int = Field(4, ge=1, le=64)
    """n: transformer blocks. Paper: 13."""
    width: int = Field(64, ge=4, le=4096)
    """D: channels of a token; a multiple of twice `heads` (queries and keys have D / 2). Paper: 512."""
    heads: int = Field(4, ge=1, le=64)
    """Attention heads. Paper: 8."""
    mlp_ratio: int = Field(4, ge=1, le=16)
    """Hidden channels of a block's MLP over D. Paper: 4."""
    windows_per_image: int = Field(20, ge=1, le=100_000)
    """Windows drawn from each training image in an epoch. Paper: 600."""
    epochs: int = Field(20, ge=1, le=100_000)
    """Most epochs of training."""
    patience: int = Field(10, ge=1, le=100_000)
    """Epochs without a lower validation loss after which training stops. Paper: 50."""
    batch: int = Field(64, ge=1, le=65_536)
    """Windows in a training step. Paper: 256."""
    lr: float = Field(2e-3, gt=0, le=1)
    """Highest learning rate of Adam. Paper: 1e-4."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """Learning rate after the warm-up: constant (paper), or falling to zero over all planned epochs along a cosine."""
    warmup_steps: int = Field(100, ge=0, le=100_000)
    """Steps over which the learning rate rises linearly from zero. Paper: 0."""
    alpha: float = Field(0.01, ge=0, le=100)
    """Weight of 1 - GMS in the loss. Paper: 0.01."""
    beta: float = Field(0.01, ge=0, le=100)
    """Weight of 1 - SSIM in the loss. Paper: 0.01."""
    rotations: bool = False
    """Turn each training window's image by 0, 90, 180 or 270 degrees at random. Paper: on."""
    flips: bool = True
    """Mirror each training window's image at random (both axes without `rotations`, else the whole dihedral group)."""
    validation_windows: int = Field(64, ge=1, le=100_000)
    """Windows of each validation image in the validation loss, drawn once."""
    inference_windows: int = Field(256, ge=1, le=65_536)
    """Windows of one image that go through the network at once in scoring; bounds the memory."""
    smoothing_side: int = Field(5, ge=1, le=255)
    """Odd side in pixels of the mean filter over pixel maps. Paper: 21 at 256 pixels."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.image_side % self.patch_side:
            raise UserError(
                f"intra: image_side {self.image_side} is not a multiple of patch_side {self.patch_side}; "
                f"take {self.image_side // self.patch_side * self.patch_side or self.patch_side} for instance."
            )
        if self.window_side > self.grid_side:
            raise UserError(
                f"intra: window_side {self.window_side} is larger than the grid of {self.grid_side} patches a side "
                f"(image_side {self.image_side} / patch_side {self.patch_side}); take a smaller window or patch."
            )
        if self.width % (2 * self.heads):
            raise UserError(
                f"intra: width {self.width} is not a multiple of {2 * self.heads}, twice heads {self.heads}; "
                "queries and keys share width / 2 channels among the heads."
            )
        if self.smoothing_side % 2 == 0 or self.smoothing_side > 2 * self.image_side - 1:
            raise UserError(
                f"intra: smoothing_side {self.smoothing_side} must be odd and below twice image_side {self.image_side}."
            )
        return self

    @property
    def grid_side(self) -> int:
        """N = M: patches along a side of the image."""
        return self.image_side // self.patch_side
