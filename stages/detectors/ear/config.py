"""Parameters of EAR. The defaults and what was measured to choose them: README.md beside this file."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from stages.detectors.shared.restoration_config import RestorationConfig

MaskKind = Literal["attention", "rarity_raw", "rarity_clean"]
MASK_KINDS: tuple[MaskKind, ...] = ("attention", "rarity_raw", "rarity_clean")


class EarConfig(RestorationConfig):
    """EAR: cut out what looks suspicious, restore it from a mosaic hint, compare."""

    image_side: int = Field(64, ge=16, le=512)
    """Side in pixels of the square images that the detector's own model sees.

    A multiple of 2^depth, at least 2 * 2^depth. Of `space: pixels`."""
    width: int = Field(32, ge=4, le=256)
    """Channels of the U-Net at full size; each halving of the image doubles them."""
    depth: int = Field(2, ge=1, le=5)
    """How many times the U-Net halves the image."""
    mask: MaskKind = "rarity_raw"
    """Cut by class `attention` (paper), or by rarity (`rarity_raw`, `rarity_clean`).

    Rarity is the distance of a patch's raw or denoised feature from those of good images."""
    compare_masks: bool = True
    """Also score with the other kinds of mask (same network), and report these scores."""
    mask_fraction: float = Field(0.15, gt=0.0, lt=1.0)
    """Share of the image's area that is cut out."""
    neighbours: int = Field(3, ge=1, le=50)
    """Rarity of a patch: its mean distance to this many nearest features of good images."""
    memory_size: int = Field(5000, ge=10, le=1_000_000)
    """Randomly sampled patch features of good images that rarity is measured against."""
    hint: Literal["mosaic", "none"] = "mosaic"
    """What fills the cut: a `mosaic` of what was there (paper), or zeros (`none`)."""
    mosaic_scales: tuple[Annotated[int, Field(ge=1, le=128)], ...] = Field((2, 4, 8, 16), min_length=1)
    """Candidate sides of a mosaic cell in pixels, or in tokens; one is chosen on validation images.

    Pixels of the image resized to `image_side`."""
    hint_tolerance: float = Field(1.0, ge=0.0)
    """The coarsest mosaic whose error is at most (1 + this) times the finest's is chosen.

    The error is that of the restoration."""
    random_mask_share: float = Field(0.5, ge=0.0, le=1.0)
    """Share of training images masked by random blocks instead of their own mask.

    The network must have seen holes anywhere."""
    gms_weight: float = Field(0.1, ge=0.0)
    """Weight of 1 - GMS (gradient magnitude similarity) in the loss; squared error has 1.

    Of pixels. The loss of tokens is the squared error in the cut."""
    ssim_weight: float = Field(0.1, ge=0.0)
    """Weight of 1 - SSIM (structural similarity) in the loss. Of pixels."""
    epochs: int = Field(24, ge=1)
    """Largest number of passes over the training images."""
    batch: int = Field(16, ge=1)
    """Images per training step."""
    lr: float = Field(2e-3, gt=0.0)
    """Learning rate of Adam at the start; it falls to zero along a cosine."""
    patience: int = Field(8, ge=1)
    """Training stops after this many epochs without a lower validation loss."""
    spread_floor: float = Field(1.0, gt=0.0)
    """Added to each pixel's variance, as a share of the mean variance.

    It is added before pixel maps are standardised."""
    smooth_sigma: float = Field(1.5, ge=0.0, le=32.0)
    """Standard deviation in pixels of the Gaussian filter over pixel maps; 0: none.

    The maps are standardised first."""
    top_fraction: float = Field(0.01, gt=0.0, le=1.0)
    """The image score of a pixel map is the mean of this share of its highest pixels.

    Of tokens it is the maximum."""

    @model_validator(mode="after")
    def _sides_fit(self) -> EarConfig:
        if len(set(self.mosaic_scales)) < len(self.mosaic_scales):
            raise ValueError(f"mosaic_scales {list(self.mosaic_scales)} names a scale twice")
        if self.space == "pixels":
            self.check_side("image_side", self.image_side)
        elif self.features == "imagenet":
            self.check_side("the grid of token_side / patch", self.token_side // self.patch)
        return self

    def check_side(self, name: str, side: int) -> None:
        """
        Args:
            side: of what the network restores, in pixels or tokens.

        Raises:
            ValueError: the U-Net cannot halve it `depth` times, or a mosaic cell is larger.
        """
        halved = 2**self.depth
        if side % halved or side < 2 * halved:
            raise ValueError(
                f"{name} {side} is not a multiple of 2^depth = {halved}, or not twice as large: change it, or depth"
                f" {self.depth}"
            )
        if self.hint == "mosaic" and max(self.mosaic_scales) > side:
            raise ValueError(f"mosaic scale {max(self.mosaic_scales)} is larger than {name} {side}")
