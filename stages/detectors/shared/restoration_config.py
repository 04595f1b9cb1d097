"""Parameters of detectors that restore an image and judge by what differs: EAR and InTra."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from stages.detectors.interface import ImageNetConfig
from stages.detectors.shared.features import Kind


class RestorationConfig(ImageNetConfig):
    """Parameters of what is restored, and of how image and restoration are compared."""

    reads_backbone: ClassVar[bool] = True

    space: Literal["tokens", "pixels"] = "tokens"
    """What is restored: the features of patches (`tokens`), or the image's `pixels` (the papers')."""
    features: Kind = "imagenet"
    """Features that are read: of the ImageNet CNN (`imagenet`), or the backbone's tokens (`raw`; denoised: `clean`)."""
    network: Literal["lite0", "lite1", "lite2"] = "lite2"
    """EfficientNet-Lite (ImageNet) whose feature maps of strides 4, 8 and 16 are stacked."""
    token_side: int = Field(256, ge=64, le=1024, multiple_of=32)
    """Side in pixels of the images whose tokens the ImageNet CNN computes, a multiple of 32."""
    channels: int = Field(64, ge=1, le=4096)
    """Principal components of the tokens that are restored; the rest is predicted by its mean.

    At most as many as the tokens have channels."""
    restore: Literal["network", "mean"] = "network"
    """What restores tokens: the `network`, or their `mean` at each place, which shows what the network adds."""
    smoothing: float = Field(1.0, ge=0.0, le=8.0)
    """Standard deviation, in grid cells, of the Gaussian filter over the map. The score is that of the smoothed map.

    Of tokens."""
    compare: Literal["ssim", "msgms"] = "ssim"
    """How image and restoration are compared in pixels: `ssim`, or `msgms` (the papers').

    The image scores of both are reported."""
    mixed_precision: bool = False
    """Train in half precision on a GPU. A CPU always trains in single precision."""

    @property
    def input_side(self) -> int:
        """`token_side` if the ImageNet CNN's tokens are restored."""
        return self.token_side if self.space == "tokens" and self.features == "imagenet" else self.image_side

    @property
    def restored_fields(self) -> frozenset[str]:
        """The field of `Samples` that is restored; empty for pixels, which come always."""
        return frozenset({self.features}) if self.space == "tokens" else frozenset()
