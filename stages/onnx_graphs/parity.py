"""How far two computations of the same scores and maps differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.score.calibration import rejected
from stages.types import ScoreMap


@dataclass(frozen=True)
class Parity:
    """Differences over some images, as shares of the range of our own values over these images."""

    images: int
    scores: float
    """Largest difference of a score."""
    maps: float
    """Largest mean difference over the map of an image."""
    pixel: float
    """Largest difference of a pixel. It is shown, but has no limit: EAR cuts out a fixed number of pixels, and EAR and
    InTra see tokens in half precision, so the last bit of a value may change a pixel and the map around it."""
    decisions: int
    """Images with different decisions, except those whose score is at the threshold within the tolerance."""

    def within(self, tolerance: float) -> bool:
        """Whether scores and maps differ by at most `tolerance`, and no decision differs. False for NaN."""
        return self.scores <= tolerance and self.maps <= tolerance and self.decisions == 0


def compare(ours: Sequence[ScoreMap], theirs: Sequence[ScoreMap], threshold: float | None, tolerance: float) -> Parity:
    """Compare our results with other results of the same images, in the same order.

    Args:
        ours, theirs: at least one image.
        threshold: None: decisions are not compared.
    """
    our_maps = np.stack([result.anomaly_map for result in ours]).astype(np.float64)  # (N, S, S)
    our_scores = np.array([result.image_score for result in ours])
    difference = np.abs(np.stack([result.anomaly_map for result in theirs]) - our_maps) / _range(our_maps)
    their_scores = np.array([result.image_score for result in theirs])
    decisions = 0
    if threshold is not None:
        clear = np.abs(our_scores - threshold) > tolerance * _range(our_scores)
        decisions = int((clear & (rejected(our_scores, threshold) != rejected(their_scores, threshold))).sum())
    return Parity(
        images=len(ours),
        scores=float(np.max(np.abs(their_scores - our_scores)) / _range(our_scores)),
        maps=float(difference.mean(axis=(1, 2)).max()),
        pixel=float(difference.max()),
        decisions=decisions,
    )


def differences(
    ours: Sequence[Mapping[str, NDArray[np.floating]]], theirs: Sequence[Mapping[str, NDArray[np.floating]]]
) -> dict[str, float]:
    """By name of an array: the largest mean difference over an image, as a share of the range of our values."""
    largest = {}
    for name in ours[0]:
        our_values, their_values = (
            np.stack([arrays[name] for arrays in images]).astype(np.float64) for images in (ours, theirs)
        )
        per_image = np.abs(their_values - our_values).mean(axis=tuple(range(1, our_values.ndim)))
        largest[name] = float(per_image.max() / _range(our_values))
    return largest


def _range(values: NDArray[np.floating]) -> float:
    """Largest minus smallest value; if all are equal, their absolute value, or 1 for zeros."""
    return float(np.ptp(values) or np.abs(values).max() or 1.0)
