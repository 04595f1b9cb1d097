"""Drift: tests whether new images are like the images that the detectors learned from.

There are four tests: one of the mean features as a whole (energy distance, by permutation), and one each of the
distance to the training set, the brightness and the sharpness (Kolmogorov-Smirnov). Holm's procedure divides the level
among them.

Sources: Székely and Rizzo, "Energy statistics", J. Stat. Planning and Inference 143 (2013), section 6 (two samples, by
permutation); Phipson and Smyth, "Permutation p-values should never be zero", SAGMB 9 (2010), equation 2; Holm, "A
simple sequentially rejective multiple test procedure", Scand. J. Statistics 6 (1979).
Deviations: channels are scaled by the standard deviation of both sets together, not of the training set only. Otherwise
labels could not be exchanged, and the test would not keep its level with few images. Of a set of more than
`MAX_COMPARED` images, `MAX_COMPARED` are sampled for what costs the square of their number.

The tests assume independent images: many images of a few parts look like drift. The network that computes the features
must have been trained on neither set, or on both: images that it was trained on lie elsewhere in its feature space.

Legend: N training images; M new ones; K images compared in pairs; P permutations; C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from stages.drift.config import TESTS, DriftConfig
from stages.drift.descriptors import Descriptors
from stages.types import UserError, batches

MAX_COMPARED = 1000
"""Largest number of images of each set that are compared in pairs."""
_AT_ONCE = 256
"""Rows of a matrix of distances, or permutations, that are computed at a time."""
EFFECT_WORDS = {
    "features": ("the features moved by", "the features moved by"),
    "distance": ("farther from the nearest training images by", "closer to the nearest training images by"),
    "brightness": ("brighter by", "darker by"),
    "sharpness": ("sharper by", "more blurred by"),
}
"""By test: the words for a positive and for a negative effect."""


@dataclass(frozen=True)
class Finding:
    """The result of one test."""

    name: str
    """One of `TESTS`."""
    statistic: float
    """Energy distance for `features`, otherwise the largest difference of the distribution functions."""
    p_value: float
    """The p value of this test alone."""
    adjusted: float
    """The p value after Holm's procedure, 0 to 1."""
    effect: float | None
    """Difference of the means, in standard deviations of the training images. For `features`, the root mean square over
    channels minus what chance adds, 0 or more. None if the training images do not vary at all."""
    found: bool
    """Whether the test found a difference: `adjusted` is at most the level."""

    def describe(self) -> str:
        """The result in one line."""
        chance = f"p = {self.adjusted:.2g}"
        if not self.found:
            return f"{self.name}: no difference shown ({chance})"
        if self.effect is None:
            return f"{self.name}: differs, while all training images are equal in it ({chance})"
        phrase = EFFECT_WORDS[self.name][self.effect < 0]
        return f"{self.name}: {phrase} {abs(self.effect):.2g} training standard deviations ({chance})"


@dataclass(frozen=True)
class Drift:
    """The result of the comparison of new images with training images."""

    training: int
    """Number of training images."""
    new: int
    """Number of new images."""
    level: float
    """False-alarm rate of all tests together, 0 to 1."""
    findings: tuple[Finding, ...]
    """One per test, in the order of `TESTS`; empty if the tests were not made."""
    reason: str
    """Why the tests were not made; empty if they were made."""

    @property
    def drifted(self) -> bool:
        """Whether any test found a difference."""
        return any(finding.found for finding in self.findings)

    def lines(self) -> list[str]:
        """The result in lines of text: the verdict, then one line per test."""
        sets = f"{self.new} new images against {self.training} of training"
        if self.reason:
            return [f"drift not tested: {self.reason}"]
        verdict = "drift" if self.drifted else "no drift shown"
        return [f"{verdict}: {sets}, level {self.level:g}", *(finding.describe() for finding in self.findings)]

    def to_json(self) -> dict[str, Any]:
        """The result as JSON values, with the verdict and the text of each test."""
        findings = [{**asdict(finding), "words": finding.describe()} for finding in self.findings]
        return {**asdict(self), "drifted": self.drifted, "findings": findings}


def compare(training: Descriptors, new: Descriptors, config: DriftConfig, seed: int) -> Drift:
    """Compare M new images with N training images.

    Raises:
        UserError: the features have different numbers of channels.
    """
    n, m = len(training), len(new)
    if training.features.shape[1] != new.features.shape[1]:
        raise UserError(
            f"drift: training images have {training.features.shape[1]} channels, new images {new.features.shape[1]}: "
            "describe both with the same backbone"
        )
    if min(n, m) < config.least:
        which = f"{m} new images" if m < config.least else f"{n} training images"
        return Drift(n, m, config.level, (), f"{which}, fewer than {config.least} (drift.least)")
    with threadpool_limits(1):
        results = _run_tests(training, new, config, seed)
    adjusted_p_values = holm([p for _, p, _ in results])
    findings = tuple(
        Finding(name, statistic, p, adjusted, effect, adjusted <= config.level)
        for name, (statistic, p, effect), adjusted in zip(TESTS, results, adjusted_p_values, strict=True)
    )
    return Drift(n, m, config.level, findings, "")


TestResult = tuple[float, float, float | None]
"""Statistic, p value, effect."""


def _run_tests(training: Descriptors, new: Descriptors, config: DriftConfig, seed: int) -> list[TestResult]:
    """The results of all tests, in the order of `TESTS`."""
    generator = np.random.default_rng([seed, 0x64726966])
    features, new_features = _standardise(training.features, new.features)
    rows, new_rows = (np.sort(generator.permutation(len(values))[:MAX_COMPARED]) for values in (features, new_features))
    statistic, p = energy_test(features[rows], new_features[new_rows], config.permutations, generator)
    k = min(config.neighbours, len(features) - 1)
    distances = nearest_distances(features, features[rows], k, own=rows)
    new_distances = nearest_distances(features, new_features[new_rows], k)
    return [
        (statistic, p, _feature_effect(training.features, new.features)),
        _kolmogorov_smirnov(distances, new_distances),
        _kolmogorov_smirnov(training.brightness, new.brightness),
        _kolmogorov_smirnov(training.sharpness, new.sharpness),
    ]


def _standardise(a: NDArray[np.float32], b: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(N, C), (M, C) with mean 0 and standard deviation 1 over both sets in each channel; a constant channel is 0."""
    both = np.concatenate([a, b])
    centre, spread = both.mean(0, dtype=np.float64), both.std(0, dtype=np.float64)
    spread[_constant(spread, centre)] = np.inf
    standardised = ((both - centre) / spread).astype(np.float32)
    return standardised[: len(a)], standardised[len(a) :]


def _constant(spread: Any, centre: Any) -> Any:
    """Whether values are constant: their standard deviation `spread` is only rounding of their mean `centre`."""
    return spread <= 1e-9 * np.abs(centre)


def _feature_effect(training: NDArray[np.float32], new: NDArray[np.float32]) -> float | None:
    """Root mean square, over channels that vary in training, of the difference of means in standard deviations.

    By chance alone, the square of a difference of means is 1 / N + 1 / M on average, which is subtracted.
    """
    centre, spread = training.mean(0, dtype=np.float64), training.std(0, dtype=np.float64)
    kept = ~_constant(spread, centre)
    if not kept.any():
        return None
    squares = ((new.mean(0, dtype=np.float64) - centre)[kept] / spread[kept]) ** 2
    return float(np.sqrt(max(0.0, squares.mean() - 1 / len(training) - 1 / len(new))))


def _kolmogorov_smirnov(training: NDArray[np.floating], new: NDArray[np.floating]) -> TestResult:
    """Kolmogorov-Smirnov test between (N,) and (M,) values, and the difference of their means."""
    from scipy.stats import ks_2samp

    result = ks_2samp(training, new, method="asymp")
    centre, spread = training.mean(dtype=np.float64), training.std(dtype=np.float64)
    effect = None if _constant(spread, centre) else float((new.mean(dtype=np.float64) - centre) / spread)
    return float(result.statistic), float(result.pvalue), effect


def nearest_distances(
    memory: NDArray[np.float32], queries: NDArray[np.float32], neighbours: int, own: NDArray[np.int64] | None = None
) -> NDArray[np.float64]:
    """Mean distance of each query (K, C) to the nearest `neighbours` rows of a memory (N, C) -> (K,).

    Args:
        own: (K,) the row of each query in the memory, which is left out. None: the queries are not in the memory.
    """
    squares = np.square(memory).sum(1, dtype=np.float64)
    distances = np.empty(len(queries))
    for rows in batches(len(queries), _AT_ONCE):
        part = queries[rows]
        squared = squares + np.square(part).sum(1, dtype=np.float64)[:, None] - 2 * (part @ memory.T)  # (B, N)
        if own is not None:
            squared[np.arange(len(part)), own[rows]] = np.inf
        closest = np.partition(squared, neighbours - 1, axis=1)[:, :neighbours]
        distances[rows] = np.sqrt(closest.clip(0)).mean(1)
    return distances


def energy_test(
    a: NDArray[np.float32], b: NDArray[np.float32], permutations: int, generator: np.random.Generator
) -> tuple[float, float]:
    """Energy distance between two samples (n, C), (m, C) of at most `MAX_COMPARED` images each, and its p value.

    The statistic is 2 E|X - Y| - E|X - X'| - E|Y - Y'|, with means over all pairs (Székely and Rizzo, equation 6.1,
    without the factor n m / (n + m), which is the same for all permutations).
    """
    from scipy.spatial.distance import cdist

    n, m = len(a), len(b)
    both = np.concatenate([a, b])
    distances = cdist(both, both)  # (K, K)
    total, row_sums = distances.sum(), distances.sum(1)
    true_labels = (np.arange(n + m) >= n)[None]  # (1, K) which images are in the second sample
    permuted_labels = generator.permuted(true_labels.repeat(permutations, 0), axis=1)  # (P, K)
    statistics = []
    for labels in (true_labels, *(permuted_labels[rows] for rows in batches(permutations, _AT_ONCE))):
        second = labels.astype(np.float64)  # (B, K)
        within = np.einsum("bk,bk->b", second @ distances, second)
        across = second @ row_sums - within
        statistics.append(2 * across / (n * m) - within / m**2 - (total - 2 * across - within) / n**2)
    observed, permuted = float(statistics[0][0]), np.concatenate(statistics[1:])
    as_large = int((permuted >= observed - 1e-9 * abs(observed)).sum())  # values that differ by rounding are equal
    return observed, (1 + as_large) / (1 + permutations)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p values. If all tests with a value of at most the level are rejected, the chance of any false rejection
    is at most the level."""
    order = np.argsort(p_values, kind="stable")
    factors = len(p_values) - np.arange(len(p_values))
    raised = np.minimum(np.maximum.accumulate(np.asarray(p_values)[order] * factors), 1.0)
    adjusted = np.empty(len(p_values))
    adjusted[order] = raised
    return [float(value) for value in adjusted]
