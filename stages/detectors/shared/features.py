"""Patch features of images for detectors that model them: of an ImageNet CNN, or of the backbone, raw or denoised.

Legend: N images; B of them in a batch; h, w grid; C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stages.detectors.interface import ImageNetConfig
from stages.types import Rows, Samples, ScoreMap, UserError, batches

Kind = Literal["imagenet", "raw", "clean"]
KINDS: tuple[Kind, ...] = ("imagenet", "raw", "clean")
READ = 16
"""Images read at a time."""


class FeatureConfig(ImageNetConfig):
    """Parameters of a detector that models patch features."""

    features: Kind = "imagenet"
    """What is modelled: an ImageNet CNN's maps of images of `image_side` (`imagenet`), or the backbone's tokens, as
    they come (`raw`) or denoised (`clean`)."""
    compare_features: bool = True
    """Model the other kinds too, and report their image scores beside it: what denoising and the backbone bought."""

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Kinds to model, the deployed one first."""
        others = tuple(kind for kind in KINDS if kind != self.features) if self.compare_features else ()
        return (self.features, *others)


def feature_batches(samples: Samples, kind: Kind) -> Iterator[NDArray[np.float32]]:
    """(B, h, w, C) features of all images in order.

    Raises:
        UserError: the images come without them.
    """
    source: Rows | None = samples.images if kind == "imagenet" else getattr(samples, kind)
    extract = samples.imagenet
    if source is None or (kind == "imagenet" and extract is None):
        raise UserError(f"the images come without features of the kind '{kind}', which the detector was fitted on")
    for rows in batches(len(samples), READ):
        block = source[rows]
        yield extract(block) if kind == "imagenet" and extract is not None else block.astype(np.float32)


def scored(
    samples: Samples, maps: Mapping[Kind, Callable[[NDArray[np.float32]], NDArray[np.float32]]]
) -> Iterator[ScoreMap]:
    """Map and maximum of the first kind; extras: the maximum of each kind, where there are several.

    Args:
        maps: by kind, the function from an image's features (h, w, C) to its anomaly map.
    """
    streams = [feature_batches(samples, kind) for kind in maps]
    for blocks in zip(*streams, strict=True):  # of the same images
        for one in zip(*blocks, strict=True):
            planes = {kind: make(features) for (kind, make), features in zip(maps.items(), one, strict=True)}
            scores: dict[str, float] = {kind: float(plane.max()) for kind, plane in planes.items()}
            deployed = next(iter(planes))
            yield ScoreMap(planes[deployed], scores[deployed], extras=scores if len(scores) > 1 else {})
