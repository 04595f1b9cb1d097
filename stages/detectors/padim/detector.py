"""PaDiM: a Gaussian over patch features at each position; the anomaly map is the Mahalanobis distance from it.

Source: Defard et al., "PaDiM", ICPR Workshops 2021, sections 3.1 to 3.3.
Deviations: EfficientNet-Lite instead of ResNet; all channels instead of a random choice; shrunk covariances
(`stages.detectors.shared.gaussian`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stages.detectors.padim.config import PadimConfig
from stages.detectors.shared import gaussian_maps
from stages.detectors.shared.features import Kind
from stages.types import Fitted, Samples, ScoreMap

if TYPE_CHECKING:
    from stages.training import Session


def needs(config: PadimConfig) -> frozenset[str]:
    """The kinds of features that are modelled."""
    return frozenset(config.kinds)


def fit(train: Samples, validation: Samples, config: PadimConfig, seed: int, session: Session) -> Fitted:
    """Fit a Gaussian per position for each kind of features (`stages.detectors.shared.gaussian_maps.fit`)."""
    return gaussian_maps.fit(train, validation, config, session, {}, _as_they_are, score)


def score(fitted: Fitted, samples: Samples, config: PadimConfig, device: str) -> Iterator[ScoreMap]:
    """Yield the smoothed Mahalanobis map (h, w) and its maximum as image score.

    Extras: the image score with each kind of features, if several are compared.
    """
    yield from gaussian_maps.score(fitted, samples, config, _as_they_are)


def _as_they_are(
    features: NDArray[np.float32], kind: Kind, arrays: Mapping[str, NDArray[Any]], config: PadimConfig
) -> NDArray[np.float32]:
    return features
