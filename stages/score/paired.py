"""Paired differences B - A of two models on the same images: how much, how sure, and in words.

Areas get the paired stratified percentile bootstrap: both models are resampled with the same draws, which are those of
`stages.score.intervals`. Rates get Agresti and Min's interval for matched proportions, as single rates get Wilson's:
where few decisions differ, the bootstrap calls four flips of one kind significant (an exact test: p = 0.125) and calls
the difference of no flips known exactly.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from stages.score.intervals import percentile_interval, resample

Key = TypeVar("Key", bound=Hashable)
Verdict = Literal["better", "worse", "no difference shown"]
Scores = NDArray[np.float64]
Draws = NDArray[np.float32]
"""(n, B): how often each of n images is drawn, in each of B resamples."""

AREAS = ("image_auroc", "image_aupr")
HIGHER_IS_BETTER = {
    "image_auroc": True,
    "image_aupr": True,
    "escape_rate": False,
    "overkill_rate": False,
    "pixel_auroc": True,
    "aupro": True,
}
"""Which way each metric is good."""
_CHUNK = 500_000
"""Draws held at once: bounds the memory, whatever the number of images."""


@dataclass(frozen=True)
class Difference:
    """One metric of two models on the same images."""

    a: float
    b: float
    interval: tuple[float, float] | None
    """[lo, hi] of B - A; None where there are too few images for one."""

    @property
    def value(self) -> float:
        """B - A."""
        return self.b - self.a


def verdict(metric: str, interval: tuple[float, float]) -> Verdict:
    """What the interval of B - A shows of B: `better` or `worse` where it lies wholly on one side of zero."""
    low, high = interval
    if low <= 0 <= high:
        return "no difference shown"
    return "better" if (low > 0) == HIGHER_IS_BETTER[metric] else "worse"


def areas(scores: Scores, labels: NDArray[np.bool_]) -> dict[str, float]:
    """AUROC and AUPR of one model, by the names of AREAS; both classes must be present."""
    once = np.ones((len(labels), 1), np.float32)
    values = _areas(_columns(scores, labels), once[: int(labels.sum())], once[: int((~labels).sum())])
    return dict(zip(AREAS, values[:, 0].tolist(), strict=True))


def area_differences(
    pairs: Mapping[Key, tuple[Scores, Scores]],
    labels: NDArray[np.bool_],
    resamples: int,
    confidence: float,
    seed: int,
) -> dict[Key, dict[str, Difference]]:
    """AUROC and AUPR of each pair of models (A, B), with the interval of B - A.

    All pairs share one set of draws, so that a pair gets the same interval whatever stands beside it.

    Args:
        pairs: scores (N,) of A and of B on the same N images in the same order; higher = more anomalous.
        labels: (N,) True = defect. Both classes must be present; with one image of a class there is no interval, since
            a resample of it is itself.
        resamples: how many; their draws depend on `seed` and the class sizes alone.
        confidence: coverage of the intervals, 0..1.

    Returns:
        metric of AREAS -> difference, by the keys of `pairs`.
    """
    columns = {key: (_columns(a, labels), _columns(b, labels)) for key, (a, b) in pairs.items()}
    bad, good = int(labels.sum()), int((~labels).sum())
    samples: dict[Key, list[NDArray[np.float64]]] = {key: [] for key in pairs}
    for drawn_bad, drawn_good in _draws(bad, good, resamples if min(bad, good) > 1 else 0, seed):
        for key, (a, b) in columns.items():
            samples[key].append(_areas(b, drawn_bad, drawn_good) - _areas(a, drawn_bad, drawn_good))
    found: dict[Key, dict[str, Difference]] = {}
    for key, both in pairs.items():
        old, new = (areas(scores, labels) for scores in both)
        ends = _intervals(np.concatenate(samples[key], axis=1), confidence) if samples[key] else [None, None]
        found[key] = {name: Difference(old[name], new[name], ends[row]) for row, name in enumerate(AREAS)}
    return found


def _intervals(samples: NDArray[np.float64], confidence: float) -> list[tuple[float, float]]:
    """Of each row of (2, resamples)."""
    return [(ends[0], ends[1]) for ends in (percentile_interval(row, confidence) for row in samples)]


def _draws(bad: int, good: int, resamples: int, seed: int) -> Iterator[tuple[Draws, Draws]]:
    """How often each defect (bad, B) and each good image (good, B) is drawn, B resamples at a time.

    The draws are those of `stages.score.intervals.resampled_counts` for this seed and these class sizes.
    """
    generators = [np.random.default_rng([seed, kind]) for kind in (1, 0)]
    for start in range(0, resamples, step := max(1, _CHUNK // (bad + good))):
        size = min(step, resamples - start)
        drawn = [resample(one, count, size) for one, count in zip(generators, (bad, good), strict=True)]
        # images along the first axis: to put them in the order of a model's scores is then to copy whole rows
        drawn_bad, drawn_good = (np.ascontiguousarray(one.T, dtype=np.float32) for one in drawn)
        yield drawn_bad, drawn_good


@dataclass(frozen=True)
class _Columns:
    """Where P defects and Q good images stand when sorted by falling score."""

    defects: NDArray[np.int64]
    """(P,) the defects, highest score first."""
    goods: NDArray[np.int64]
    """(Q,) the good images, highest score first."""
    at_least: NDArray[np.int64]
    """(P,) for each sorted defect, how many good images score at least as high."""
    above: NDArray[np.int64] | None
    """(P,) how many score higher; None where no defect ties with a good image."""
    tied: NDArray[np.int64] | None
    """(P,) for each sorted defect, the last that has the same score; None where none ties with another."""


def _columns(scores: Scores, labels: NDArray[np.bool_]) -> _Columns:
    falling_bad, falling_good = -scores[labels], -scores[~labels]
    defects, goods = np.argsort(falling_bad, kind="stable"), np.argsort(falling_good, kind="stable")
    falling_bad, falling_good = falling_bad[defects], falling_good[goods]
    at_least = np.searchsorted(falling_good, falling_bad, side="right")
    above = np.searchsorted(falling_good, falling_bad, side="left")
    tied = np.searchsorted(falling_bad, falling_bad, side="right") - 1
    return _Columns(
        defects=defects,
        goods=goods,
        at_least=at_least,
        above=None if (above == at_least).all() else above,
        tied=None if (tied == np.arange(len(tied))).all() else tied,
    )


def _areas(columns: _Columns, bad: Draws, good: Draws) -> NDArray[np.float64]:
    """(2, B): AUROC and AUPR of B resamples, given how often each defect (P, B) and each good image (Q, B) was drawn.

    The same as `metrics.auroc` and `metrics.average_precision` of `resampled_counts`, summed over defects instead of
    over distinct scores, which takes a fifth of the time. Counts in float32 are exact up to 2 ** 24 images.
    """
    weights = bad[columns.defects]  # (P, B)
    passed = np.zeros((len(good) + 1, good.shape[1]), np.float32)
    np.cumsum(good[columns.goods], axis=0, out=passed[1:])  # (Q + 1, B)
    at_least = passed[columns.at_least]  # (P, B) false positives at the score of each defect
    wrong = at_least if columns.above is None else (at_least + passed[columns.above]) / 2
    lost = np.einsum("pb,pb->b", weights, wrong, dtype=np.float64)  # pairs in the wrong order, ties half
    found = np.cumsum(weights, axis=0)  # (P, B) true positives
    if columns.tied is not None:
        found = found[columns.tied]
    called = np.maximum(at_least + found, 1)  # 0 / 0 only where a resample has nothing yet, with a weight of 0
    precision = np.divide(found, called, dtype=np.float64)
    # each class is drawn as often as it has images
    return np.stack([1 - lost / (len(bad) * len(good)), np.einsum("pb,pb->b", weights, precision) / len(bad)])


def rate_difference(wrong_a: NDArray[np.bool_], wrong_b: NDArray[np.bool_], confidence: float) -> Difference:
    """A rate of errors of A and of B on the same images, n > 0, with the interval of B - A.

    Agresti and Min, Statistics in Medicine 24 (2005), 729-740, section 3: Wald's interval for matched pairs with half a
    count added to each cell of the 2 x 2 table, cut to [-1, 1].
    """
    n = len(wrong_a)
    only_b, only_a = float((wrong_b & ~wrong_a).sum()), float((wrong_a & ~wrong_b).sum())
    total, centre = n + 2, (only_b - only_a) / (n + 2)
    spread = (only_a + only_b + 1 - (only_b - only_a) ** 2 / total) ** 0.5 / total
    half = NormalDist().inv_cdf((1 + confidence) / 2) * spread
    return Difference(float(wrong_a.mean()), float(wrong_b.mean()), (max(-1.0, centre - half), min(1.0, centre + half)))
