"""How far two computations of the same scores and maps lie apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.score.calibration import rejected
from stages.types import ScoreMap


@dataclass(frozen=True)
class Parity:
    """Differences over some images, as shares of how far our own values spread over them."""

    images: int
    scores: float
    """Largest difference of a score."""
    maps: float
    """Largest mean difference over an image's map."""
    pixel: float
    """Largest difference of a pixel; shown, not judged. EAR cuts out a fixed number of pixels, and EAR and InTra round
    restorations to grey levels: a last bit may move a pixel to the other side, and the map around it."""
    decisions: int
    """Images decided otherwise, those whose score lies at the threshold within the tolerance not counted."""

    def within(self, tolerance: float) -> bool:
        """False for NaN too."""
        return self.scores <= tolerance and self.maps <= tolerance and self.decisions == 0


def compare(ours: Sequence[ScoreMap], theirs: Sequence[ScoreMap], threshold: float | None, tolerance: float) -> Parity:
    """Both of the same images in the same order, at least one; without a threshold no decisions are compared."""
    maps = np.stack([one.anomaly_map for one in ours]).astype(np.float64)  # (N, S, S)
    scores = np.array([one.image_score for one in ours])
    difference = np.abs(np.stack([one.anomaly_map for one in theirs]) - maps) / _spread(maps)
    found = np.array([one.image_score for one in theirs])
    decisions = 0
    if threshold is not None:
        clear = np.abs(scores - threshold) > tolerance * _spread(scores)
        decisions = int((clear & (rejected(scores, threshold) != rejected(found, threshold))).sum())
    return Parity(
        images=len(ours),
        scores=float(np.max(np.abs(found - scores)) / _spread(scores)),
        maps=float(difference.mean(axis=(1, 2)).max()),
        pixel=float(difference.max()),
        decisions=decisions,
    )


def differences(
    ours: Sequence[Mapping[str, NDArray[np.floating]]], theirs: Sequence[Mapping[str, NDArray[np.floating]]]
) -> dict[str, float]:
    """Of each array, by name: the largest mean difference over an image, as a share of how far our values spread."""
    found = {}
    for name in ours[0]:
        mine, other = (np.stack([one[name] for one in images]).astype(np.float64) for images in (ours, theirs))
        apart = np.abs(other - mine).mean(axis=tuple(range(1, mine.ndim)))
        found[name] = float(apart.max() / _spread(mine))
    return found


def _spread(values: NDArray[np.floating]) -> float:
    """From the least to the greatest; of equal values, their size."""
    return float(np.ptp(values) or np.abs(values).max() or 1.0)
