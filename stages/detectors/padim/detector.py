"""PaDiM: a Gaussian over patch features at each position; the anomaly map is the Mahalanobis distance from it.

Source: Defard et al., "PaDiM", ICPR Workshops 2021, sections 3.1 to 3.3.
Deviations: EfficientNet-Lite instead of ResNet; all channels instead of a random choice; shrunk covariances
(`stages.detectors.shared.gaussian`); optionally, features minus their prediction from the surroundings
(`stages.detectors.shared.surroundings`).

Legend: N images; B of them in a batch; h, w grid; C channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from stages.detectors.padim.config import PadimConfig
from stages.detectors.shared import surroundings
from stages.detectors.shared.features import Kind, feature_batches, score_by_kind
from stages.detectors.shared.gaussian import Distance, Gaussian, Sums
from stages.detectors.shared.held_out import fit_with_validation_results
from stages.types import Fitted, Samples, ScoreMap

if TYPE_CHECKING:
    from stages.training import Session


@dataclass(frozen=True)
class _KindState:
    """What is kept of one kind of features of the images that the model has been fitted to."""

    prediction: dict[str, NDArray[Any]]
    """The prediction from the surroundings, fitted to training images; empty without it."""
    sums: Sums


_State = dict[Kind, _KindState]


def needs(config: PadimConfig) -> frozenset[str]:
    """The kinds of features that are modelled."""
    return frozenset(config.kinds)


def fit(train: Samples, validation: Samples, config: PadimConfig, seed: int, session: Session) -> Fitted:
    """Fit a Gaussian per position for each kind of features, in one pass over the images.

    With `surroundings`, a pass over a few training images comes first, to fit the prediction. Nothing is random.

    Memory: 500 MB while 28 x 28 positions of 176 channels are fitted, 50 MB more for each other kind of features with
    14 x 14 positions.
    """

    def fit_on_training() -> tuple[Fitted, _State]:
        return _fit_on_training(train, config)

    def extend(state: _State) -> Fitted:
        return _extend(state, validation, config)

    return fit_with_validation_results(fit_on_training, extend, validation, config, session.device, score)


def _fit_on_training(train: Samples, config: PadimConfig) -> tuple[Fitted, _State]:
    state = {kind: _KindState(_fit_prediction(train, kind, config), Sums()) for kind in config.kinds}
    return _extend(state, train, config), state


def _extend(state: _State, samples: Samples, config: PadimConfig) -> Fitted:
    """Add images to the sums of the state; the model of all images added so far."""
    arrays: dict[str, NDArray[Any]] = {}
    for kind, own in state.items():
        for block in feature_batches(samples, kind):
            own.sums.add(np.stack([_residual(features, own.prediction, kind, config) for features in block]))
        gaussian = own.sums.gaussian(config.shrinkage, config.ridge, config.normalised)
        arrays |= own.prediction | gaussian.to_arrays(f"{kind}.")
    return Fitted(arrays, metrics={"images": own.sums.count})


def _fit_prediction(train: Samples, kind: Kind, config: PadimConfig) -> dict[str, NDArray[Any]]:
    """Fit the prediction of a cell's features from their surroundings to a few training images."""
    if config.surroundings == 0:
        return {}
    chosen = train.take(surroundings.evenly_spaced(len(train)))
    features = np.concatenate(list(feature_batches(chosen, kind)))
    return {f"{kind}.prediction": surroundings.fit(features, config.surroundings)}


def score(fitted: Fitted, samples: Samples, config: PadimConfig, device: str) -> Iterator[ScoreMap]:
    """Yield the smoothed Mahalanobis map (h, w) and its maximum as image score.

    Extras: the image score with each kind of features, if several are compared.
    """
    distances = {kind: Distance(Gaussian.from_arrays(fitted.arrays, f"{kind}.")) for kind in config.kinds}

    def distance_map(kind: Kind, features: NDArray[np.float32]) -> NDArray[np.float32]:
        return gaussian_filter(distances[kind](_residual(features, fitted.arrays, kind, config)), config.smoothing)

    yield from score_by_kind(samples, {kind: partial(distance_map, kind) for kind in config.kinds})


def _residual(
    features: NDArray[np.float32], arrays: Mapping[str, NDArray[Any]], kind: Kind, config: PadimConfig
) -> NDArray[np.float32]:
    """(h, w, C) -> (h, w, C): features minus their prediction from the surroundings, if there is one."""
    if config.surroundings == 0:
        return features
    return surroundings.residual(features, arrays[f"{kind}.prediction"], config.surroundings)
