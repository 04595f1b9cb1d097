"""Nearest neighbours: the distance of each patch's features to the nearest features of good images, at any position.

Source: Roth et al., "PatchCore", CVPR 2022.
Deviations: the mean distance to `neighbours` features instead of the re-weighted nearest; distances in channels of
equal spread unless `metric` says otherwise; the memory may be sampled at random instead of chosen greedily; the map is
smoothed on the grid. With `metric: cosine`, `memory_size: null` and `top_share: 0.01` it compares as Damm et al.,
"AnomalyDINO", WACV 2025, does: without rotated references and mask of the background.

Legend: N images; B of them in a batch; P = h * w patches; C channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from stages.detectors.knn.config import KnnConfig
from stages.detectors.shared.features import Kind, feature_batches, score_by_kind
from stages.detectors.shared.held_out import fit_with_validation_results
from stages.detectors.shared.nearest import Memory, Search, coreset, sample_memory
from stages.torch_setup import one_thread
from stages.types import Fitted, Samples, ScoreMap

if TYPE_CHECKING:
    from stages.training import Session


def needs(config: KnnConfig) -> frozenset[str]:
    """The kinds of features that are modelled."""
    return frozenset(config.kinds)


def fit(train: Samples, validation: Samples, config: KnnConfig, seed: int, session: Session) -> Fitted:
    """Collect one memory for each kind of features."""

    def fit_on_training() -> tuple[Fitted, Samples]:
        return _fit_memories((train,), config, seed, session.device), train

    def extend(train: Samples) -> Fitted:
        return _fit_memories((train, validation), config, seed, session.device)

    return fit_with_validation_results(fit_on_training, extend, validation, config, session.device, score)


def _fit_memories(parts: Sequence[Samples], config: KnnConfig, seed: int, device: str) -> Fitted:
    arrays: dict[str, NDArray[Any]] = {}
    sizes: dict[str, int] = {}
    for kind in config.kinds:
        memory = _fit_memory(parts, kind, config, seed, device)
        arrays |= memory.to_arrays(f"{kind}.")
        sizes[kind] = len(memory.features)
    return Fitted(arrays, metrics={"memory": sizes})


def score(fitted: Fitted, samples: Samples, config: KnnConfig, device: str) -> Iterator[ScoreMap]:
    """Yield the smoothed map of distances (h, w) and its highest cells' mean (`top_share`) as image score.

    Extras: the image score with each kind of features, if several are compared.
    """
    searches = {
        kind: Search(Memory.from_arrays(fitted.arrays, f"{kind}."), config.neighbours, device) for kind in config.kinds
    }
    maps = {kind: partial(_distance_map, search, config) for kind, search in searches.items()}
    yield from score_by_kind(samples, maps, config.top_share)


def _fit_memory(parts: Sequence[Samples], kind: Kind, config: KnnConfig, seed: int, device: str) -> Memory:
    first = next(feature_batches(parts[0].take([0]), kind))
    patches = first.shape[1] * first.shape[2]
    count = sum(map(len, parts))
    kept = config.memory_size or count * patches
    greedy = config.coreset == "greedy"
    blocks = (_comparable(block, config) for part in parts for block in feature_batches(part, kind))
    memory = sample_memory(blocks, count, patches, max(config.coreset_pool, kept) if greedy else kept, seed)
    if config.metric != "spread":  # distances are then computed in the channels as they are
        memory = replace(memory, centre=np.zeros_like(memory.centre), spread=np.ones_like(memory.spread))
    return coreset(memory, kept, seed, device) if greedy else memory


def _comparable(features: NDArray[np.float32], config: KnnConfig) -> NDArray[np.float32]:
    """(..., C) -> the same shape: of length 1 if they are compared by their cosine."""
    if config.metric != "cosine":
        return features
    length = np.linalg.norm(features, axis=-1, keepdims=True)
    return features / np.maximum(length, np.finfo(np.float32).tiny)


def _distance_map(search: Search, config: KnnConfig, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """(h, w, C) -> (h, w)."""
    with one_thread():
        distances = search.distances(_comparable(features, config).reshape(-1, features.shape[-1]))
    return gaussian_filter(distances.reshape(features.shape[:2]), config.smoothing)
