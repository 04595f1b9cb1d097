"""`context`: a patch is anomalous if the patches around it do not explain its features.

A linear map, the same at all positions, predicts the features of a cell from those of its eight neighbours at a
distance (`stages.detectors.shared.surroundings`). A Gaussian at each position judges what is left.

Source: ours. That a patch is judged by those around it is InTra's principle (Pirnay and Chai, 2021, section 3.1); the
Gaussian is PaDiM's (Defard et al., 2021).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stages.detectors.context.config import ContextConfig
from stages.detectors.shared import gaussian_maps, surroundings
from stages.detectors.shared.features import Kind, feature_batches
from stages.types import Fitted, Samples, ScoreMap

if TYPE_CHECKING:
    from stages.training import Session


def needs(config: ContextConfig) -> frozenset[str]:
    """The kinds of features that are modelled."""
    return frozenset(config.kinds)


def fit(train: Samples, validation: Samples, config: ContextConfig, seed: int, session: Session) -> Fitted:
    """Fit the prediction to up to 128 training images, then a Gaussian per position over what it leaves.

    The prediction is that of training images also if the Gaussian is fitted on validation images.

    Memory: 2.6 GB at the peak of a process that fits 48 x 48 positions of 192 channels (the default) to 342 images; it
    grows with positions and squared channels, hardly with images.
    """
    chosen = train.take(surroundings.evenly_spaced(len(train)))
    predictions = {
        f"{kind}.prediction": surroundings.fit(np.concatenate(list(feature_batches(chosen, kind))), config.surroundings)
        for kind in config.kinds
    }
    return gaussian_maps.fit(train, validation, config, session, predictions, _unexplained, score)


def score(fitted: Fitted, samples: Samples, config: ContextConfig, device: str) -> Iterator[ScoreMap]:
    """Yield the smoothed map (h, w) of what is not explained, and its maximum as image score.

    Extras: the image score with each kind of features, if several are compared.
    """
    yield from gaussian_maps.score(fitted, samples, config, _unexplained)


def _unexplained(
    features: NDArray[np.float32], kind: Kind, arrays: Mapping[str, NDArray[Any]], config: ContextConfig
) -> NDArray[np.float32]:
    return surroundings.residual(features, arrays[f"{kind}.prediction"], config.surroundings)
