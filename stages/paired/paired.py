"""Paired differences B - A of two models on the same images: value, interval and verdict.

Areas have the interval of the paired percentile bootstrap: the same resamples of groups for both models, those of
`stages.score.resamples`. Rates have Agresti and Min's interval for matched proportions, as single rates have Wilson's.
The bootstrap does not suit rates with few different decisions: four flips of one kind would be significant (an exact
test: p = 0.125), and without flips the difference would count as exactly known.

Legend: P defects; Q good images; n images of one class; B resamples at a time.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from stages.score.intervals import design_effect, percentile_interval, student_or_normal
from stages.score.resamples import groups_of_class, resampled_images

Key = TypeVar("Key", bound=Hashable)
Verdict = Literal["better", "worse", "no difference shown"]
Scores = NDArray[np.float64]
Resampled = NDArray[np.float32]
"""(n, B): how often each of n images is sampled, in each of B resamples."""

AREAS = ("image_auroc", "image_aupr")
HIGHER_IS_BETTER = {
    "image_auroc": True,
    "image_aupr": True,
    "escape_rate": False,
    "overkill_rate": False,
    "pixel_auroc": True,
    "aupro": True,
}
"""By metric: whether higher values are better."""
_CHUNK = 500_000
"""Array elements computed at a time. Bounds the memory for any number of images."""


@dataclass(frozen=True)
class Difference:
    """One metric of two models on the same images."""

    a: float
    b: float
    interval: tuple[float, float] | None
    """[lo, hi] of B - A; None if there are too few images."""

    @property
    def value(self) -> float:
        """B - A."""
        return self.b - self.a


def verdict(metric: str, interval: tuple[float, float]) -> Verdict:
    """Whether B is `better` or `worse`: only if the whole interval of B - A lies on one side of zero."""
    low, high = interval
    if low <= 0 <= high:
        return "no difference shown"
    return "better" if (low > 0) == HIGHER_IS_BETTER[metric] else "worse"


def areas(scores: Scores, labels: NDArray[np.bool_]) -> dict[str, float]:
    """AUROC and AUPR of one model, by the names in `AREAS`. Both classes must be present."""
    ones = np.ones((len(labels), 1), np.float32)
    values = _areas(_sort(scores, labels), ones[: int(labels.sum())], ones[: int((~labels).sum())])
    return dict(zip(AREAS, values[:, 0].tolist(), strict=True))


def area_differences(
    pairs: Mapping[Key, tuple[Scores, Scores]],
    labels: NDArray[np.bool_],
    groups: NDArray[np.int64],
    resamples: int,
    confidence: float,
    seed: int,
) -> dict[Key, dict[str, Difference]]:
    """AUROC and AUPR of each pair of models (A, B), with the interval of B - A.

    All pairs share the same resamples: the interval of a pair does not depend on the other pairs.

    Args:
        pairs: scores (N,) of A and of B on the same N images in the same order; higher = more anomalous.
        labels: (N,) True = defect. Both classes must be present.
        groups: (N,) the group of each image; equal for related images. If the images of a class are of one group there
            is no interval: all resamples of it are equal.
        resamples: number of resamples, which depend only on `seed`, the labels and the groups.
        confidence: coverage of the intervals, 0 to 1.

    Returns:
        By the keys of `pairs`: metric in `AREAS` -> difference.
    """
    ranked = {key: (_sort(a, labels), _sort(b, labels)) for key, (a, b) in pairs.items()}
    fewest = min(groups_of_class(labels, groups))
    samples: dict[Key, list[NDArray[np.float64]]] = {key: [] for key in pairs}
    for resampled in _resamples(labels, groups, resamples if fewest > 1 else 0, seed):
        for key, (a, b) in ranked.items():
            samples[key].append(_areas(b, *resampled) - _areas(a, *resampled))
    differences: dict[Key, dict[str, Difference]] = {}
    for key, (scores_a, scores_b) in pairs.items():
        areas_a, areas_b = areas(scores_a, labels), areas(scores_b, labels)
        ends = _intervals(np.concatenate(samples[key], axis=1), confidence, fewest) if samples[key] else [None, None]
        differences[key] = {name: Difference(areas_a[name], areas_b[name], ends[i]) for i, name in enumerate(AREAS)}
    return differences


def _intervals(samples: NDArray[np.float64], confidence: float, groups: int) -> list[tuple[float, float]]:
    """The interval of each row of (2, resamples)."""
    return [(ends[0], ends[1]) for ends in (percentile_interval(row, confidence, groups) for row in samples)]


def _resamples(
    labels: NDArray[np.bool_], groups: NDArray[np.int64], resamples: int, seed: int
) -> Iterator[tuple[Resampled, Resampled]]:
    """Yield how often each defect (P, B) and each good image (Q, B) is sampled, B resamples at a time."""
    for counts in resampled_images(labels, groups, resamples, seed, _CHUNK):
        # Images are along the first axis: sorting them by a model's scores then copies whole rows.
        of_defects, of_goods = (np.ascontiguousarray(count.T, dtype=np.float32) for count in counts)
        yield of_defects, of_goods


@dataclass(frozen=True)
class _Sorted:
    """P defects and Q good images, sorted by falling score."""

    defects: NDArray[np.int64]
    """(P,) indices of the defects, highest score first."""
    goods: NDArray[np.int64]
    """(Q,) indices of the good images, highest score first."""
    at_least: NDArray[np.int64]
    """(P,) for each sorted defect, the number of good images that score at least as high."""
    above: NDArray[np.int64] | None
    """(P,) for each sorted defect, the number of good images that score higher; None if no defect ties with a good
    image."""
    tied: NDArray[np.int64] | None
    """(P,) for each sorted defect, the last defect with the same score; None if no two defects tie."""


def _sort(scores: Scores, labels: NDArray[np.bool_]) -> _Sorted:
    falling_bad, falling_good = -scores[labels], -scores[~labels]
    defects, goods = np.argsort(falling_bad, kind="stable"), np.argsort(falling_good, kind="stable")
    falling_bad, falling_good = falling_bad[defects], falling_good[goods]
    at_least = np.searchsorted(falling_good, falling_bad, side="right")
    above = np.searchsorted(falling_good, falling_bad, side="left")
    tied = np.searchsorted(falling_bad, falling_bad, side="right") - 1
    return _Sorted(
        defects=defects,
        goods=goods,
        at_least=at_least,
        above=None if (above == at_least).all() else above,
        tied=None if (tied == np.arange(len(tied))).all() else tied,
    )


def _areas(ranked: _Sorted, of_defects: Resampled, of_goods: Resampled) -> NDArray[np.float64]:
    """(2, B): AUROC and AUPR of B resamples.

    The values are those of `metrics.auroc` and `metrics.average_precision` of `resampled_counts`, summed over defects
    instead of distinct scores, which takes a fifth of the time. Counts in float32 are exact up to 2 ** 24 images.

    Args:
        of_defects, of_goods: (P, B) and (Q, B), how often each image is sampled.
    """
    weights = of_defects[ranked.defects]  # (P, B)
    cumulated = np.zeros((len(of_goods) + 1, of_goods.shape[1]), np.float32)
    np.cumsum(of_goods[ranked.goods], axis=0, out=cumulated[1:])  # (Q + 1, B)
    fp = cumulated[ranked.at_least]  # (P, B) false positives at the score of each defect
    wrong = fp if ranked.above is None else (fp + cumulated[ranked.above]) / 2
    lost = np.einsum("pb,pb->b", weights, wrong, dtype=np.float64)  # pairs in the wrong order, ties half
    tp = np.cumsum(weights, axis=0)  # (P, B) true positives
    if ranked.tied is not None:
        tp = tp[ranked.tied]
    positives = np.maximum(fp + tp, 1)  # 0 / 0 only where a resample has no image yet, with a weight of 0
    precision = np.divide(tp, positives, dtype=np.float64)
    defects, goods = of_defects.sum(axis=0, dtype=np.float64), of_goods.sum(axis=0, dtype=np.float64)
    return np.stack([1 - lost / (defects * goods), np.einsum("pb,pb->b", weights, precision) / defects])


def rate_difference(
    wrong_a: NDArray[np.bool_], wrong_b: NDArray[np.bool_], groups: NDArray[np.int64], confidence: float
) -> Difference:
    """The error rates of A and of B on the same images, with the interval of B - A.

    Agresti and Min, Statistics in Medicine 24 (2005), 729-740, section 3: Wald's interval for matched pairs with half a
    count added to each cell of the 2 x 2 table, clipped to [-1, 1]. Where images share groups, its spread is multiplied
    by the root of the design effect, with Student's quantile.

    Args:
        wrong_a, wrong_b: (n,) whether the decision on each image is wrong, n > 0.
        groups: (n,) the group of each image.
    """
    n, change = len(wrong_a), wrong_b.astype(np.int64) - wrong_a
    only_b, only_a = float((change > 0).sum()), float((change < 0).sum())
    total, centre = n + 2, (only_b - only_a) / (n + 2)
    spread = (only_a + only_b + 1 - (only_b - only_a) ** 2 / total) ** 0.5 / total
    half = student_or_normal(groups, confidence) * (design_effect(change, groups) ** 0.5 * spread)
    return Difference(float(wrong_a.mean()), float(wrong_b.mean()), (max(-1.0, centre - half), min(1.0, centre + half)))
