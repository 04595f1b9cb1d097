"""One Gaussian per position over what an image's features leave after a transformation, for one or several kinds of
features. PaDiM models the features themselves, `context` what their surroundings do not explain.

Legend: h, w grid; C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from stages.detectors.shared.features import Kind, feature_batches, score_by_kind
from stages.detectors.shared.gaussian import Distance, Gaussian, Sums
from stages.detectors.shared.gaussian_config import GaussianConfig
from stages.detectors.shared.held_out import fit_with_validation_results
from stages.types import Fitted, Samples, ScoreMap

if TYPE_CHECKING:
    from stages.training import Session

Arrays = Mapping[str, NDArray[Any]]

Parameters = TypeVar("Parameters", bound=GaussianConfig)
Transform = Callable[[NDArray[np.float32], Kind, Arrays, Parameters], NDArray[np.float32]]
"""From features (h, w, C) of an image, their kind and a model's arrays to what the Gaussian is over, (h, w, C)."""


def fit(
    train: Samples,
    validation: Samples,
    config: Parameters,
    session: Session,
    arrays: Arrays,
    transform: Transform[Parameters],
    score: Callable[[Fitted, Samples, Parameters, str], Iterator[ScoreMap]],
) -> Fitted:
    """Fit a Gaussian per position for each kind of features, in one pass over the images. Nothing is random.

    Memory: 500 MB while 28 x 28 positions of 176 channels are fitted; it grows with positions and squared channels.

    Args:
        arrays: what `transform` reads, fitted to training images; part of the model.
        score: the detector's function `score`.
    """

    def extend(sums: Mapping[Kind, Sums], samples: Samples) -> Fitted:
        found = dict(arrays)
        for kind, own in sums.items():
            for block in feature_batches(samples, kind):
                own.add(np.stack([transform(features, kind, arrays, config) for features in block]))
            found |= own.gaussian(config.shrinkage, config.ridge, config.normalised).to_arrays(f"{kind}.")
        return Fitted(found, metrics={"images": next(iter(sums.values())).count})

    def fit_on_training() -> tuple[Fitted, Mapping[Kind, Sums]]:
        sums = {kind: Sums() for kind in config.kinds}
        return extend(sums, train), sums

    return fit_with_validation_results(
        fit_on_training, partial(extend, samples=validation), validation, config, session.device, score
    )


def score(fitted: Fitted, samples: Samples, config: Parameters, transform: Transform[Parameters]) -> Iterator[ScoreMap]:
    """Yield the smoothed Mahalanobis map (h, w) and its maximum as image score.

    Extras: the image score with each kind of features, if several are compared.
    """
    distances = {kind: Distance(Gaussian.from_arrays(fitted.arrays, f"{kind}.")) for kind in config.kinds}

    def distance_map(kind: Kind, features: NDArray[np.float32]) -> NDArray[np.float32]:
        return gaussian_filter(distances[kind](transform(features, kind, fitted.arrays, config)), config.smoothing)

    yield from score_by_kind(samples, {kind: partial(distance_map, kind) for kind in config.kinds})
