"""What a detector is: a package below `stages.detectors` with `config.py` (its parameters) and `detector.py` (this)."""

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
    """Whether the detector may read features of the backbone, whatever its parameters. One that says no runs again only
    when its images change."""
    baseline: ClassVar[bool] = False
    """Whether it is a plain method that tables show beside the other detectors: what a user would take instead."""

    image_side: int
    """S: side in pixels of the images that the detector's own model sees."""
    fit_on: Literal["train", "train_and_validation"] = "train_and_validation"
    """Normal images from which the model that judges others learns what is normal. Validation images, which set the
    threshold, are judged by a model of training images alone in any case, and no network is trained on them, nor what
    predicts features from their surroundings, nor EAR's memory for its masks."""

    @property
    def input_side(self) -> int:
        """Side in pixels to which images are resized for `Samples`."""
        return self.image_side


class ImageNetConfig(DetectorConfig):
    """Parameters of a detector that reads the feature maps of a CNN trained on ImageNet (`Samples.imagenet`)."""

    network: Literal["lite0", "lite1", "lite2"] = "lite0"
    """The EfficientNet-Lite whose maps of strides 4, 8 and 16 are stacked."""
    patch: Literal[8, 16] = 8
    """Pixels a cell along a side of the grid to which its maps are brought."""


class CompareConfig(ImageNetConfig):
    """Parameters of a detector that compares images with their restorations."""

    compare: Literal["features", "ssim", "msgms"] = "features"
    """How image and restoration are compared: in the features of an ImageNet CNN, or pixel by pixel. `msgms`: the
    paper's. Image scores by both kinds of pixels are reported in any case."""
    network: Literal["lite0", "lite1", "lite2"] = "lite2"
    """The EfficientNet-Lite whose maps of strides 4, 8 and 16 are stacked."""
    compare_side: int = Field(256, ge=64, le=1024, multiple_of=32)
    """For `compare: features`: side in pixels at which the image is compared with its restoration, which is enlarged to
    it; a multiple of 32 and of `image_side`."""
    surroundings: int = Field(8, ge=0, le=99)
    """For `compare: features`: how many cells away the eight cells lie from which, beside the restoration, a cell's
    features are predicted; what is left counts. Lot and exposure fall out, smaller defects stay. 0: none."""

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
        """What is compared in features comes at `compare_side`; the network sees it reduced to `image_side`."""
        return self.compare_side if self.compare == "features" else self.image_side


class Detector(Protocol):
    """The functions that `detector.py` of every detector package defines at module level."""

    def needs(self, config: Any) -> frozenset[str]:
        """Which of `raw`, `clean`, `attention`, `imagenet` of `Samples` it reads with this configuration; images come
        always. One that may read `imagenet` has an `ImageNetConfig`."""
        ...

    def fit(self, train: Samples, validation: Samples, config: Any, seed: int, session: Session) -> Fitted:
        """Fit on normal images. `validation` holds normal images too, of other groups; both have at least one image.

        One that learns from `validation` too has, in `held_out`, what these get from one that does not
        (`stages.detectors.held_out`).

        Same arguments, same bytes; a killed training that goes on from `session.checkpoint` gives them too.
        """
        ...

    def score(self, fitted: Fitted, samples: Samples, config: Any, device: str) -> Iterator[ScoreMap]:
        """One `ScoreMap` an image, in order.

        What an image gets does not depend, to the byte, on the images beside it: results are cached image by image.
        """
        ...
