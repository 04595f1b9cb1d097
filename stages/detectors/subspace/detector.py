"""Subspace: the part of each patch's features that the principal components of good images do not explain.

Source: SubspaceAD, arXiv:2602.23013 (CVPR 2026): features of a frozen ViT, the fewest components that explain 99 % of
the variance, the squared norm of the rest, the mean of the highest 1 % as image score.
Deviations: blocks and size of the backbone; the map is smoothed on the grid, and the highest cells are counted there;
references are not rotated.

Legend: N images; B of them in a batch; h, w grid; P = h * w patches; C channels; K components.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from stages.detectors.shared.features import Kind, feature_batches, score_by_kind
from stages.detectors.shared.held_out import fit_with_validation_results
from stages.detectors.subspace.config import SubspaceConfig
from stages.torch_setup import one_thread
from stages.types import Fitted, Samples, ScoreMap

if TYPE_CHECKING:
    from stages.training import Session


@dataclass
class _Moments:
    """Sums over all patches that have been added, in double precision."""

    count: int = 0
    total: Tensor | None = None
    """(C,)."""
    products: Tensor | None = None
    """(C, C)."""

    def add(self, features: NDArray[np.float32]) -> None:
        """(B, h, w, C)."""
        flat = torch.from_numpy(features.reshape(-1, features.shape[-1])).double()
        total, products = flat.sum(0), flat.T @ flat
        self.count += len(flat)
        self.total = total if self.total is None else self.total + total
        self.products = products if self.products is None else self.products + products

    def subspace(self, explained: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The mean (C,), and the fewest principal components (K, C) that explain this share of the variance."""
        assert self.total is not None and self.products is not None
        mean = self.total / self.count
        values, vectors = torch.linalg.eigh(self.products / self.count - torch.outer(mean, mean))
        variances = values.flip(0).clamp(min=0)
        shares = variances.cumsum(0) / variances.sum().clamp(min=torch.finfo(torch.float64).tiny)
        kept = min(int((shares < explained).sum()) + 1, len(shares)) if float(variances.sum()) > 0 else 0
        components = vectors.flip(1)[:, :kept].T
        return mean.float().numpy(), np.ascontiguousarray(components.float().numpy())


_State = dict[Kind, _Moments]


def needs(config: SubspaceConfig) -> frozenset[str]:
    """The kinds of features that are modelled."""
    return frozenset(config.kinds)


def fit(train: Samples, validation: Samples, config: SubspaceConfig, seed: int, session: Session) -> Fitted:
    """Find the subspace of each kind of features, in one pass over the images. Nothing is random.

    Memory: two matrices of C x C in double precision.
    """

    def fit_on_training() -> tuple[Fitted, _State]:
        state: _State = {kind: _Moments() for kind in config.kinds}
        return _extend(state, train, config), state

    def extend(state: _State) -> Fitted:
        return _extend(state, validation, config)

    return fit_with_validation_results(fit_on_training, extend, validation, config, session.device, score)


def _extend(state: _State, samples: Samples, config: SubspaceConfig) -> Fitted:
    """Add images to the sums of the state; the model of all images added so far."""
    arrays: dict[str, NDArray[np.float32]] = {}
    with one_thread():
        for kind, moments in state.items():
            for block in feature_batches(samples, kind):
                moments.add(block)
            arrays[f"{kind}.mean"], arrays[f"{kind}.components"] = moments.subspace(config.explained)
    return Fitted(arrays, metrics={"components": {kind: len(arrays[f"{kind}.components"]) for kind in state}})


def score(fitted: Fitted, samples: Samples, config: SubspaceConfig, device: str) -> Iterator[ScoreMap]:
    """Yield the smoothed map (h, w) of the unexplained part, and the mean of its highest cells as image score.

    It runs on the CPU, whatever `device` is: the work is two small matrix products per image.
    Extras: the image score with each kind of features, if several are compared.
    """
    maps = {
        kind: partial(
            _unexplained_map, fitted.arrays[f"{kind}.mean"], fitted.arrays[f"{kind}.components"], config.smoothing
        )
        for kind in config.kinds
    }
    yield from score_by_kind(samples, maps, config.top_share)


def _unexplained_map(
    mean: NDArray[np.float32], components: NDArray[np.float32], smoothing: float, features: NDArray[np.float32]
) -> NDArray[np.float32]:
    """(h, w, C) -> (h, w): squared norm of what the components leave."""
    with one_thread():
        centred = torch.from_numpy((features - mean).reshape(-1, features.shape[-1]))  # (P, C)
        kept = torch.from_numpy(components)
        rest = centred - (centred @ kept.T) @ kept
        plane = rest.square().sum(1).reshape(features.shape[:2]).numpy()
    return gaussian_filter(plane, smoothing)
