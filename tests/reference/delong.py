"""DeLong's test as the paper writes it: every pair of a defect and a good image, O(PQ)."""

from __future__ import annotations

from collections.abc import Sequence
from math import erf, sqrt


def kernel(bad: float, good: float) -> float:
    """psi of DeLong et al. (1988), equation 1."""
    return 1.0 if good < bad else 0.5 if good == bad else 0.0


def covariance(first: Sequence[float], second: Sequence[float]) -> float:
    mean_first, mean_second = sum(first) / len(first), sum(second) / len(second)
    products = ((x - mean_first) * (y - mean_second) for x, y in zip(first, second, strict=True))
    return sum(products) / (len(first) - 1)


def delong(
    scores_a: Sequence[float], scores_b: Sequence[float], labels: Sequence[bool]
) -> tuple[float, float, float, float]:
    """AUROC of A and of B, variance of B - A from the covariance matrix (equations 4 to 7), two-sided p."""
    areas, over_bad, over_good = [], [], []
    for scores in (scores_a, scores_b):
        bad = [score for score, label in zip(scores, labels, strict=True) if label]
        good = [score for score, label in zip(scores, labels, strict=True) if not label]
        over_bad.append([sum(kernel(x, y) for y in good) / len(good) for x in bad])
        over_good.append([sum(kernel(x, y) for x in bad) / len(bad) for y in good])
        areas.append(sum(over_bad[-1]) / len(bad))

    def entry(i: int, j: int) -> float:
        return covariance(over_bad[i], over_bad[j]) / len(over_bad[0]) + covariance(over_good[i], over_good[j]) / len(
            over_good[0]
        )

    variance = entry(0, 0) + entry(1, 1) - 2 * entry(0, 1)
    z = abs(areas[1] - areas[0]) / sqrt(variance)
    return areas[0], areas[1], variance, 1 - erf(z / sqrt(2))
