"""The interface of a detector: its parameters (`DetectorConfig`) and its functions (`Detector`).

How to add a detector: `stages.detectors.registry`.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import lcm
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self

from pydantic import Field, model_validator

from stages.types import Config, Fitted, Samples, ScoreMap

if TYPE_CHECKING:
    from stages.training import Session


class DetectorConfig(Config):
    """Parameters that every detector has."""

    reads_backbone: ClassVar[bool] = False
    """Whether the detector reads features of the backbone with any of its parameters. A detector that does not is
    trained again only when its images, parameters or code change."""
    baseline: ClassVar[bool] = False
    """Whether the detector is a baseline: a simple method that tables mark, for comparison with other detectors."""

    image_side: int
    """Side in pixels of the square images that the detector's own model sees."""
    fit_on: Literal["train", "train_and_validation"] = "train_and_validation"
    """Images that the deployed model is fitted on. The threshold always comes from a model fitted on training images
    only, and networks are always trained on training images only.

    The prediction from surroundings and the memory for EAR's masks are also fitted on training images only."""

    @property
    def input_side(self) -> int:
        """Side in pixels to which images are resized for `Samples`."""
        return self.image_side


class ImageNetConfig(DetectorConfig):
    """Parameters of a detector that reads the feature maps of a CNN trained on ImageNet (`Samples.imagenet`)."""

    network: Literal["lite0", "lite1", "lite2"] = "lite0"
    """EfficientNet-Lite (ImageNet) whose feature maps of strides 4, 8 and 16 are stacked."""
    patch: Literal[8, 16] = 8
    """Side in pixels of a grid cell. The CNN's feature maps are brought to this grid."""


class CompareConfig(ImageNetConfig):
    """Parameters of a detector that compares images with their restorations."""

    compare: Literal["features", "ssim", "msgms"] = "features"
    """How image and restoration are compared: in `features` of the ImageNet CNN, or pixel by pixel with `ssim` or
    `msgms` (the papers').

    Image scores of both pixel comparisons are reported in any case."""
    network: Literal["lite0", "lite1", "lite2"] = "lite2"
    """EfficientNet-Lite (ImageNet) whose feature maps of strides 4, 8 and 16 are stacked."""
    compare_side: int = Field(256, ge=64, le=1024, multiple_of=32)
    """Side in pixels at which features are compared: a multiple of 32 and of `image_side`.

    The restoration is enlarged to it. For `compare: features` only."""
    surroundings: int = Field(8, ge=0, le=99)
    """Distance, in grid cells, of the eight neighbours that predict a cell's features. The prediction is subtracted,
    which removes lot and exposure effects and keeps defects smaller than this. 0: no neighbours.

    For `compare: features` only. The restoration's features predict too, also with 0."""
    mixed_precision: bool = False
    """Train in half precision on a GPU. A CPU always trains in single precision."""

    @model_validator(mode="after")
    def _whole_cells(self) -> Self:
        if self.input_side % self.image_side:
            least = lcm(32, self.image_side)
            raise ValueError(
                f"compare_side {self.compare_side} is not a multiple of image_side {self.image_side}:"
                f" take compare_side {max(1, round(self.compare_side / least)) * least} for instance"
            )
        return self

    @property
    def input_side(self) -> int:
        """`compare_side` if features are compared; the network then sees the images reduced to `image_side`."""
        return self.compare_side if self.compare == "features" else self.image_side


class Detector(Protocol):
    """The functions that every detector's `detector.py` defines at module level."""

    def needs(self, config: Any) -> frozenset[str]:
        """The fields of `Samples` that the detector reads beside the images, with this configuration.

        Returns:
            A subset of `raw`, `clean`, `attention` and `imagenet`. A detector that can return `imagenet` has an
            `ImageNetConfig`; one that can return any of the other three sets `reads_backbone`.
        """
        ...

    def fit(self, train: Samples, validation: Samples, config: Any, seed: int, session: Session) -> Fitted:
        """Fit the detector on good images.

        If the model is also fitted on `validation`, set `Fitted.held_out` to the results of the training-only model on
        `validation`. The threshold is computed from them. `stages.detectors.shared.held_out` does this.

        The same arguments give the same bytes, also if the training was killed and resumed from `session.checkpoint`.

        Args:
            train: good images, at least one.
            validation: good images of other groups, at least one.
        """
        ...

    def score(self, fitted: Fitted, samples: Samples, config: Any, device: str) -> Iterator[ScoreMap]:
        """Yield one `ScoreMap` per image, in the order of `samples`.

        The result of an image does not depend on the other images, to the byte: results are cached per image.
        """
        ...
