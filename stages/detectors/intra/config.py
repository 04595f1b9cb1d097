"""Parameters of InTra. The defaults are a small network for minutes on two cores; the paper's size is named per field.

Source: Pirnay and Chai, "Inpainting Transformer for Anomaly Detection", 2021, arXiv:2104.13897 (below: the paper).
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from stages.detectors.interface import CompareConfig
from stages.types import UserError


class IntraConfig(CompareConfig):
    """Inpainting Transformer: paint each patch anew from the patches around it, compare."""

    image_side: int = Field(64, ge=8, le=4096)
    """Side in pixels of the square images that the detector's own model sees.

    S: a multiple of `patch_side`. Paper: 256, 320 or 512."""
    compare_side: int = Field(384, ge=64, le=1024, multiple_of=32)
    """Side in pixels at which features are compared: a multiple of 32 and of `image_side`.

    The restoration is enlarged to it. For `compare: features` only."""
    surroundings: int = Field(12, ge=0, le=99)
    """Distance, in grid cells, of the eight neighbours that predict a cell's features. The prediction is subtracted,
    which removes lot and exposure effects and keeps defects smaller than this. 0: no neighbours.

    For `compare: features` only. The restoration's features predict too, also with 0."""
    patch_side: int = Field(8, ge=2, le=128)
    """K: side in pixels of a patch, the unit that is covered and painted anew (paper: 16)."""
    window_side: int = Field(5, ge=2, le=64)
    """L: side in patches of the window that the network sees; at most S / K (paper: 7)."""
    blocks: int = Field(4, ge=1, le=64)
    """n: transformer blocks (paper: 13)."""
    width: int = Field(64, ge=4, le=4096)
    """D: channels of a token, a multiple of twice `heads` (paper: 512).

    Queries and keys have D / 2 channels."""
    heads: int = Field(4, ge=1, le=64)
    """Attention heads (paper: 8)."""
    mlp_ratio: int = Field(4, ge=1, le=16)
    """Hidden units of a block's MLP over D (paper: 4)."""
    windows_per_image: int = Field(20, ge=1, le=100_000)
    """Windows sampled per training image and epoch (paper: 600)."""
    epochs: int = Field(20, ge=1, le=100_000)
    """Largest number of passes over the training images."""
    patience: int = Field(10, ge=1, le=100_000)
    """Training stops after this many epochs without a lower validation loss.

    Paper: 50."""
    batch: int = Field(64, ge=1, le=65_536)
    """Windows per training step (paper: 256)."""
    lr: float = Field(2e-3, gt=0, le=1)
    """Peak learning rate of Adam (paper: 1e-4)."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """Learning rate after the warm-up: `constant` (paper), or a `cosine` to zero.

    The cosine spans all planned epochs."""
    warmup_steps: int = Field(100, ge=0, le=100_000)
    """Steps over which the learning rate rises linearly from zero (paper: 0)."""
    alpha: float = Field(0.01, ge=0, le=100)
    """Weight of 1 - GMS in the loss (paper: 0.01)."""
    beta: float = Field(0.01, ge=0, le=100)
    """Weight of 1 - SSIM in the loss (paper: 0.01)."""
    rotations: bool = False
    """Rotate training images by a random multiple of 90 degrees (paper: true).

    Each window's image is rotated on its own."""
    flips: bool = True
    """Mirror training images at random.

    Along both axes without `rotations`; with it, views are sampled from the whole dihedral group."""
    validation_windows: int = Field(64, ge=1, le=100_000)
    """Windows per validation image in the validation loss, sampled once."""
    inference_windows: int = Field(256, ge=1, le=65_536)
    """Windows of one image that the network scores at once; bounds the memory."""
    smoothing_side: int = Field(5, ge=1, le=255)
    """Side in pixels (odd) of the mean filter over pixel maps (paper: 21 at 256 pixels)."""

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
