"""Patch features for the detectors that model them: from an ImageNet CNN, or raw or denoised from the backbone.

Legend: N images; B of them in a batch; h, w grid; C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stages.detectors.interface import ImageNetConfig
from stages.detectors.shared.highest import top_mean
from stages.types import Rows, Samples, ScoreMap, UserError, batches

Kind = Literal["imagenet", "raw", "clean"]
KINDS: tuple[Kind, ...] = ("imagenet", "raw", "clean")
READ = 16
"""Images read at a time."""


class FeatureConfig(ImageNetConfig):
    """Parameters of a detector that models patch features."""

    features: Kind = "imagenet"
    """Features that are read: of the ImageNet CNN (`imagenet`), or the backbone's tokens (`raw`; denoised: `clean`)."""
    compare_features: bool = True
    """Also model the other kinds of features and report their image scores.

    They show what denoising and the backbone contribute."""

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Kinds to model, the deployed one first."""
        compared = tuple(kind for kind in KINDS if kind != self.features) if self.compare_features else ()
        return (self.features, *compared)


def feature_batches(samples: Samples, kind: Kind) -> Iterator[NDArray[np.float32]]:
    """Yield the features (B, h, w, C) of all images in order.

    Raises:
        UserError: the images come without features of this kind.
    """
    source: Rows | None = samples.images if kind == "imagenet" else getattr(samples, kind)
    extract = samples.imagenet
    if source is None or (kind == "imagenet" and extract is None):
        raise UserError(f"the detector needs features of the kind '{kind}', but the images come without them")
    for rows in batches(len(samples), READ):
        block = source[rows]
        yield extract(block) if kind == "imagenet" and extract is not None else block.astype(np.float32)


def score_by_kind(
    samples: Samples,
    map_functions: Mapping[Kind, Callable[[NDArray[np.float32]], NDArray[np.float32]]],
    top_share: float = 0.0,
) -> Iterator[ScoreMap]:
    """Yield, for each image, the map of the first kind of features and its image score.

    Extras: the image score of each kind's map, if there are several kinds.

    Args:
        map_functions: by kind, the function from the features (h, w, C) of an image to its anomaly map.
        top_share: the image score is the mean of this share of the map's highest cells; with 0 the highest alone.
    """
    streams = [feature_batches(samples, kind) for kind in map_functions]
    for blocks in zip(*streams, strict=True):  # the same images in each kind of features
        for image in zip(*blocks, strict=True):
            planes = {kind: make(features) for (kind, make), features in zip(map_functions.items(), image, strict=True)}
            scores: dict[str, float] = {kind: top_mean(plane, top_share) for kind, plane in planes.items()}
            deployed = next(iter(planes))
            yield ScoreMap(planes[deployed], scores[deployed], extras=scores if len(scores) > 1 else {})
