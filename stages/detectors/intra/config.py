"""Parameters of InTra. The defaults are a small network for minutes on two cores; the paper's size is named per field.

Source: Pirnay and Chai, "Inpainting Transformer for Anomaly Detection", 2021, arXiv:2104.13897 (below: the paper).
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from stages.detectors.intra.canvas import Canvas
from stages.detectors.shared.restoration_config import RestorationConfig
from stages.types import UserError


class IntraConfig(RestorationConfig):
    """Inpainting Transformer: paint each patch anew from the patches around it, compare."""

    image_side: int = Field(64, ge=8, le=4096)
    """Side in pixels of the square images that the detector's own model sees.

    S: a multiple of `patch_side`. Paper: 256, 320 or 512. Of `space: pixels`."""
    patch_side: int = Field(8, ge=2, le=128)
    """K: side in pixels of a patch, the unit that is covered and painted anew (paper: 16)."""
    patch_cells: int = Field(4, ge=1, le=64)
    """K: side in grid cells of a patch of tokens, a divisor of the grid's side."""
    window_side: int = Field(3, ge=2, le=64)
    """L: side in patches of the window that the network sees; at most S / K (paper: 7)."""
    blocks: int = Field(4, ge=1, le=64)
    """n: transformer blocks (paper: 13)."""
    width: int = Field(128, ge=4, le=4096)
    """D: channels of a token, a multiple of twice `heads` (paper: 512).

    Queries and keys have D / 2 channels."""
    heads: int = Field(4, ge=1, le=64)
    """Attention heads (paper: 8)."""
    mlp_ratio: int = Field(4, ge=1, le=16)
    """Hidden units of a block's MLP over D (paper: 4)."""
    windows_per_image: int = Field(24, ge=1, le=100_000)
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

    Each window's image is rotated on its own. Of pixels: turned tokens are not the tokens of a turned image."""
    flips: bool = True
    """Mirror training images at random.

    Along both axes without `rotations`; with it, views are sampled from the whole dihedral group. Of pixels."""
    validation_windows: int = Field(64, ge=1, le=100_000)
    """Windows per validation image in the validation loss, sampled once."""
    inference_windows: int = Field(256, ge=1, le=65_536)
    """Windows of one image that the network scores at once; bounds the memory."""
    smoothing_side: int = Field(5, ge=1, le=255)
    """Side in pixels (odd) of the mean filter over pixel maps (paper: 21 at 256 pixels)."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.space == "pixels":
            self.canvas((self.image_side, self.image_side, 3))
        elif self.features == "imagenet":
            cells = self.token_side // self.patch
            self.canvas((cells, cells, self.channels))
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

    def canvas(self, shape: tuple[int, int, int]) -> Canvas:
        """What the network paints, for images (S, S, 3) or tokens (h, w, Z).

        Raises:
            UserError: patches do not fill it, or a window does not fit into it.
        """
        pixels = self.space == "pixels"
        name, patch = ("patch_side", self.patch_side) if pixels else ("patch_cells", self.patch_cells)
        height, width, channels = shape
        if height != width or height % patch:
            whole = f"image_side {height}" if pixels else f"the grid of {height} x {width} tokens"
            fits = [side for side in range(1, height + 1) if height % side == 0 and height // side >= self.window_side]
            best = fits[-1] if fits else 1
            raise UserError(f"intra: {whole} is not a multiple of {name} {patch}; take {name} {best} for instance.")
        canvas = Canvas(height, patch, channels, start=0.5 if pixels else 0.0)
        if self.window_side > canvas.grid:
            raise UserError(
                f"intra: window_side {self.window_side} is larger than the grid of {canvas.grid} patches a side "
                f"({height} / {name} {patch}); take a smaller window or patch."
            )
        return canvas
