"""What a backbone's features tell where labels are at hand: two plain classifiers, for the record; they choose nothing.

Scored by cross-validation that never has a group of images on both sides, so that twins of one part cannot vouch for
each other.

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
"""Of the k-nearest-neighbour probe (Wu et al., CVPR 2018; DINO, section 4.1, has 20 too)."""
STRENGTH = 0.1
"""C of the logistic regression, on standardised features: hundreds of channels against hundreds of images."""


@dataclass(frozen=True)
class Probe:
    """One probe's result."""

    auroc: float | None
    """Image AUROC of the scores of all left-out parts together."""
    reason: str | None = None
    """Why there is none."""


def knn_probe(features: NDArray[np.floating], labels: NDArray[Any], groups: Sequence[str]) -> Probe:
    """Share of defects among the nearest neighbours (by cosine similarity, weighted by it) of (N, C) features."""
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer, StandardScaler

    def make(count: int) -> Any:
        nearest = KNeighborsClassifier(min(NEIGHBOURS, count), weights=_closeness, algorithm="brute")
        return make_pipeline(StandardScaler(), Normalizer(), nearest)

    return _scored(make, features, labels, groups)


def linear_probe(features: NDArray[np.floating], labels: NDArray[Any], groups: Sequence[str]) -> Probe:
    """Logistic regression on (N, C) standardised features, both classes weighing the same."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def make(count: int) -> Any:
        return make_pipeline(StandardScaler(), LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=2000))

    return _scored(make, features, labels, groups)


def _closeness(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cosine of vectors of length 1 at this distance, at least 0, plus a little: never are all weights 0."""
    return np.clip(1 - np.square(distance) / 2, 0, None) + 1e-6


def _scored(make: Any, features: NDArray[np.floating], labels: NDArray[Any], groups: Sequence[str]) -> Probe:
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedGroupKFold

    truth = np.asarray(labels).astype(bool)
    if truth.all() or not truth.any():
        return Probe(None, "the labelled images are of one class")
    few = min(len(set(np.asarray(groups)[truth == kind].tolist())) for kind in (True, False))
    if few < 2:
        return Probe(None, "the images of a class are all of one group")
    scores = np.zeros(len(truth))
    splits = StratifiedGroupKFold(min(PARTS, few)).split(features, truth, groups)
    for seen, left_out in splits:
        if truth[seen].all() or not truth[seen].any():
            return Probe(None, "the groups leave a part without one of the classes")
        fitted = make(len(seen)).fit(np.asarray(features, np.float64)[seen], truth[seen])
        scores[left_out] = fitted.predict_proba(np.asarray(features, np.float64)[left_out])[:, 1]
    return Probe(float(roc_auc_score(truth, scores)))
