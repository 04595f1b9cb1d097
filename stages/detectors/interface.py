"""The interface of a detector: its parameters (`DetectorConfig`) and its functions (`Detector`).

How to add a detector: `stages.detectors.registry`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

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

    So are the prediction from surroundings, the memory for EAR's masks, and the components of tokens."""

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
