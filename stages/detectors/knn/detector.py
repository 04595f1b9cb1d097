"""Nearest neighbours: how far each patch's features lie from those of normal images, wherever in the image.

Source: Roth et al., "PatchCore", CVPR 2022.
Deviations: the mean distance to `neighbours` features in place of the re-weighted nearest; distances in channels of
equal spread; the memory may be drawn instead of chosen greedily; the map is smoothed on the grid.

Legend: N images; B of them in a batch; P = h * w patches; C channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from stages.detectors.knn.config import KnnConfig
from stages.detectors.shared.features import Kind, feature_batches, scored
from stages.detectors.shared.held_out import with_held_out
from stages.detectors.shared.nearest import Memory, Search, coreset, drawn
from stages.torch_setup import one_thread
from stages.types import Fitted, Samples, ScoreMap

if TYPE_CHECKING:
    from stages.training import Session


def needs(config: KnnConfig) -> frozenset[str]:
    """The kinds of features that are modelled."""
    return frozenset(config.kinds)


def fit(train: Samples, validation: Samples, config: KnnConfig, seed: int, session: Session) -> Fitted:
    """A memory for each kind of features."""
    models = (_fitted(parts, config, seed, session.device) for parts in ((train,), (train, validation)))
    return with_held_out(models, validation, config, session.device, score)


def _fitted(parts: Sequence[Samples], config: KnnConfig, seed: int, device: str) -> Fitted:
    arrays: dict[str, NDArray[Any]] = {}
    kept: dict[str, int] = {}
    for kind in config.kinds:
        memory = _memory(parts, kind, config, seed, device)
        for name, value in vars(memory).items():
            arrays[f"{kind}.{name}"] = value
        kept[kind] = len(memory.features)
    return Fitted(arrays, metrics={"memory": kept})


def score(fitted: Fitted, samples: Samples, config: KnnConfig, device: str) -> Iterator[ScoreMap]:
    """Smoothed map of distances (h, w) and its maximum; extras: the image score from each other kind of features."""
    searches = {kind: Search(_part(fitted, kind), config.neighbours, device) for kind in config.kinds}
    yield from scored(samples, {kind: partial(_map, search, config.smoothing) for kind, search in searches.items()})


def _memory(parts: Sequence[Samples], kind: Kind, config: KnnConfig, seed: int, device: str) -> Memory:
    first = next(feature_batches(parts[0].take([0]), kind))
    patches = first.shape[1] * first.shape[2]
    greedy = config.coreset == "greedy"
    size = max(config.coreset_pool, config.memory_size) if greedy else config.memory_size
    blocks = (block for part in parts for block in feature_batches(part, kind))
    memory = drawn(blocks, sum(map(len, parts)), patches, size, seed)
    return coreset(memory, config.memory_size, seed, device) if greedy else memory


def _map(search: Search, smoothing: float, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """(h, w, C) -> (h, w)."""
    with one_thread():
        distances = search.distances(features.reshape(-1, features.shape[-1]))
    return gaussian_filter(distances.reshape(features.shape[:2]), smoothing)


def _part(fitted: Fitted, kind: Kind) -> Memory:
    start = f"{kind}."
    return Memory(**{name.removeprefix(start): v for name, v in fitted.arrays.items() if name.startswith(start)})
