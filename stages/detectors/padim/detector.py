"""PaDiM: a Gaussian over patch features at each position; the Mahalanobis distance is the anomaly.

Source: Defard et al., "PaDiM", ICPR Workshops 2021, sections 3.1 to 3.3.
Deviations: EfficientNet-Lite in place of ResNet, all channels in place of a random choice, shrunk covariances
(`stages.detectors.gaussian`), and, on demand, features less what their surroundings predict
(`stages.detectors.surroundings`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from stages.detectors import surroundings
from stages.detectors.features import Kind, feature_batches, scored
from stages.detectors.gaussian import Distance, Gaussian, Sums
from stages.detectors.held_out import with_held_out
from stages.detectors.padim.config import PadimConfig
from stages.types import Fitted, Samples, ScoreMap

if TYPE_CHECKING:
    from stages.training import Session


def needs(config: PadimConfig) -> frozenset[str]:
    """The kinds of features that are modelled."""
    return frozenset(config.kinds)


def fit(train: Samples, validation: Samples, config: PadimConfig, seed: int, session: Session) -> Fitted:
    """A Gaussian a position for each kind of features, in one pass over the images, after one over a few training
    images for what their surroundings predict. Nothing in it is random.

    Memory: 600 MB while 28 x 28 positions of 176 channels are fitted.
    """
    models = _fitted((train, validation), config)
    return with_held_out(models, validation, config, session.device, score)


def _fitted(parts: Sequence[Samples], config: PadimConfig) -> Iterator[Fitted]:
    """The model after each part."""
    arrays: dict[str, NDArray[Any]] = {}
    if config.surroundings:
        few = parts[0].take(surroundings.few(len(parts[0])))
        for kind in config.kinds:
            features = np.concatenate(list(feature_batches(few, kind)))
            arrays[f"{kind}.prediction"] = surroundings.fit(features, config.surroundings)
    sums, count = {kind: Sums() for kind in config.kinds}, 0
    for part in parts:
        count += len(part)
        for kind, one in sums.items():
            for block in feature_batches(part, kind):
                one.add(np.stack([_left(features, arrays, kind, config) for features in block]))
            arrays |= one.gaussian(config.shrinkage, config.ridge).named(f"{kind}.")
        yield Fitted(dict(arrays), metrics={"images": count})


def score(fitted: Fitted, samples: Samples, config: PadimConfig, device: str) -> Iterator[ScoreMap]:
    """Smoothed Mahalanobis map (h, w) and its maximum; extras: the image score from each other kind of features."""
    distances = {kind: Distance(Gaussian.of(fitted.arrays, f"{kind}.")) for kind in config.kinds}

    def plane(kind: Kind, features: NDArray[np.float32]) -> NDArray[np.float32]:
        return gaussian_filter(distances[kind](_left(features, fitted.arrays, kind, config)), config.smoothing)

    yield from scored(samples, {kind: partial(plane, kind) for kind in config.kinds})


def _left(
    features: NDArray[np.float32], arrays: Mapping[str, NDArray[Any]], kind: Kind, config: PadimConfig
) -> NDArray[np.float32]:
    """(h, w, C) -> (h, w, C)."""
    if config.surroundings == 0:
        return features
    return surroundings.left(features, arrays[f"{kind}.prediction"], config.surroundings)
