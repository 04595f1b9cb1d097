"""What a backbone's features tell if labels may be learned: two simple classifiers. For information only.

They are scored by cross-validation that never has a group of images on both sides, so that near-duplicates of one part
cannot vouch for each other.

Legend: N labelled images; C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

PARTS = 5
NEIGHBOURS = 20
"""k of the k-nearest-neighbour probe (Wu et al., CVPR 2018; DINO, section 4.1, has 20 too)."""
STRENGTH = 0.1
"""C of the logistic regression on standardised features: hundreds of channels for hundreds of images."""


@dataclass(frozen=True)
class Probe:
    """The result of one classifier."""

    auroc: float | None
    """Image AUROC of the scores of all held-out parts together; None if it cannot be computed."""
    reason: str | None = None
    """Why there is no AUROC."""


def knn_probe(features: NDArray[np.floating], labels: NDArray[Any], groups: Sequence[str]) -> Probe:
    """Share of defects among the nearest neighbours (by cosine similarity, weighted by it), for features (N, C)."""
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer, StandardScaler

    def make(count: int) -> Any:
        nearest = KNeighborsClassifier(min(NEIGHBOURS, count), weights=_closeness, algorithm="brute")
        return make_pipeline(StandardScaler(), Normalizer(), nearest)

    return _scored(make, features, labels, groups)


def linear_probe(features: NDArray[np.floating], labels: NDArray[Any], groups: Sequence[str]) -> Probe:
    """Logistic regression on standardised features (N, C), with balanced class weights."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def make(count: int) -> Any:
        return make_pipeline(StandardScaler(), LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=2000))

    return _scored(make, features, labels, groups)


def _closeness(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cosine similarity of unit vectors at this distance, at least 0, plus a small constant so that not all weights are
    0."""
    return np.clip(1 - np.square(distance) / 2, 0, None) + 1e-6


def _scored(make: Any, features: NDArray[np.floating], labels: NDArray[Any], groups: Sequence[str]) -> Probe:
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedGroupKFold

    truth = np.asarray(labels).astype(bool)
    if truth.all() or not truth.any():
        return Probe(None, "the labelled images are of one class")
    fewest_groups = min(len(set(np.asarray(groups)[truth == label].tolist())) for label in (True, False))
    if fewest_groups < 2:
        return Probe(None, "the images of a class are all of one group")
    scores = np.zeros(len(truth))
    splits = StratifiedGroupKFold(min(PARTS, fewest_groups)).split(features, truth, groups)
    for training, held_out in splits:
        if truth[training].all() or not truth[training].any():
            return Probe(None, "the groups leave a part without one of the classes")
        fitted = make(len(training)).fit(np.asarray(features, np.float64)[training], truth[training])
        scores[held_out] = fitted.predict_proba(np.asarray(features, np.float64)[held_out])[:, 1]
    return Probe(float(roc_auc_score(truth, scores)))
