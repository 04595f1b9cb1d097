"""PaDiM: a Gaussian over patch features at each position; the Mahalanobis distance is the anomaly.

Source: Defard et al., "PaDiM", ICPR Workshops 2021, sections 3.1 to 3.3.
Deviations: EfficientNet-Lite in place of ResNet, all channels in place of a random choice, shrunk covariances
(`stages.detectors.gaussian`), and, on demand, features less what their surroundings predict
(`stages.detectors.surroundings`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from stages.detectors.padim.config import PadimConfig
from stages.detectors.shared import surroundings
from stages.detectors.shared.features import Kind, feature_batches, scored
from stages.detectors.shared.gaussian import Distance, Gaussian, Sums
from stages.detectors.shared.held_out import with_held_out
from stages.types import Fitted, Samples, ScoreMap

if TYPE_CHECKING:
    from stages.training import Session


def needs(config: PadimConfig) -> frozenset[str]:
    """The kinds of features that are modelled."""
    return frozenset(config.kinds)


def fit(train: Samples, validation: Samples, config: PadimConfig, seed: int, session: Session) -> Fitted:
    """A Gaussian a position for each kind of features, in one pass over the images, after one over a few training
    images for what their surroundings predict. Nothing in it is random.

    Memory: 500 MB while 28 x 28 positions of 176 channels are fitted.
    """
    parts = (train,) if config.fit_on == "train" else (train, validation)
    return with_held_out(_fitted(parts, config), validation, config, session.device, score)


def _fitted(parts: Sequence[Samples], config: PadimConfig) -> list[Fitted]:
    """The model after each part."""
    models: list[dict[str, NDArray[Any]]] = [{} for _ in parts]
    for kind in config.kinds:  # one at a time: the sums are large
        prediction = _prediction(parts[0], kind, config)
        sums = Sums()
        for part, arrays in zip(parts, models, strict=True):
            for block in feature_batches(part, kind):
                sums.add(np.stack([_left(one, prediction, kind, config) for one in block]))
            arrays |= prediction | sums.gaussian(config.shrinkage, config.ridge, config.normalised).named(f"{kind}.")
    counts = accumulate(map(len, parts))
    return [Fitted(arrays, metrics={"images": count}) for arrays, count in zip(models, counts, strict=True)]


def _prediction(train: Samples, kind: Kind, config: PadimConfig) -> dict[str, NDArray[Any]]:
    """Of a cell's features by their surroundings, from a few images."""
    if config.surroundings == 0:
        return {}
    few = train.take(surroundings.few(len(train)))
    features = np.concatenate(list(feature_batches(few, kind)))
    return {f"{kind}.prediction": surroundings.fit(features, config.surroundings)}


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
