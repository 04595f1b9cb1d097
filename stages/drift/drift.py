"""Drift: tests whether new images are like the images that the detectors learned from.

There are four tests: of the mean features as a whole (energy distance) and of the distance to the training set, both by
permutation, and of the brightness and the sharpness (Kolmogorov-Smirnov, exact). Holm's procedure divides the level
among them, over all categories that are tested together.

Deviation: channels are scaled by the standard deviation of both sets together, not of the training set only. Otherwise
labels could not be exchanged, and the test would not keep its level with few images. Of a set of more than
`MAX_COMPARED` images, `MAX_COMPARED` are sampled for what costs the square of their number.

The tests assume independent images. Related images share a lot; what differs as lots differ is called a new lot, not a
drift (`stages.drift.lots`). The network that computes the features must have been trained on neither set, or on both:
images that it was trained on lie elsewhere in its feature space.

Legend: N training images; M new ones; K images compared in pairs; C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from stages.drift.config import TESTS, DriftConfig
from stages.drift.descriptors import Descriptors
from stages.drift.effects import feature_effect, is_constant, mean_effect
from stages.drift.two_samples import (
    distance_test,
    energy_test,
    holm,
    nearest_distances,
    nearest_order,
    relabellings,
)
from stages.types import UserError

MAX_COMPARED = 1000
"""Largest number of images of each set that are compared in pairs."""
_AT_ONCE = 256
"""Relabellings that are computed at a time."""
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
    """False-alarm rate of all tests of all categories together, 0 to 1."""
    findings: tuple[Finding, ...]
    """One per test, in the order of `TESTS`; empty if the tests were not made."""
    reason: str = ""
    """Why the tests were not made; empty if they were made."""
    lots: str = ""
    """If a test found a difference and the new images are of lots that training does not have: what that means."""
    is_new_lot: bool = False
    """Whether the new images differ only as much as lots of training do from one another."""

    @property
    def differs(self) -> bool:
        """Whether any test found a difference."""
        return any(finding.found for finding in self.findings)

    @property
    def drifted(self) -> bool:
        """Whether any test found a difference that lots do not explain."""
        return self.differs and not self.is_new_lot

    def lines(self) -> list[str]:
        """The result in lines of text: the verdict, then one line per test."""
        sets = f"{self.new} new images against {self.training} of training"
        if self.reason:
            return [f"drift not tested: {self.reason}"]
        verdict = "drift" if self.drifted else "new lot" if self.differs else "no drift shown"
        lots = [self.lots] if self.lots else []
        return [f"{verdict}: {sets}, level {self.level:g}", *lots, *(finding.describe() for finding in self.findings)]

    def to_json(self) -> dict[str, Any]:
        """The result as JSON values, with the verdict and the text of each test."""
        findings = [{**asdict(finding), "words": finding.describe()} for finding in self.findings]
        return {**asdict(self), "drifted": self.drifted, "findings": findings}


Pair = tuple[Descriptors, Descriptors]
"""Training images, and new images."""


def compare(pairs: Mapping[str, Pair], config: DriftConfig, seed: int) -> dict[str, Drift]:
    """By category, compare M new images with N training images.

    Raises:
        UserError: the features have different numbers of channels, or `permutations` are too few for so many tests.
    """
    tested = {name: _too_few(*pair, config) or _test(*pair, config, seed) for name, pair in pairs.items()}
    findings = [finding for drift in tested.values() for finding in drift.findings]
    if len(findings) > config.level * (config.permutations + 1) * (1 + 1e-9):
        raise UserError(
            f"drift: {config.permutations} permutations cannot show a drift at level {config.level:g} in "
            f"{len(findings)} tests: set permutations to {ceil(len(findings) / config.level) - 1} or more"
        )
    adjusted = iter(holm([finding.p_value for finding in findings]))
    result = {}
    for name, drift in tested.items():
        decided = tuple(
            replace(finding, adjusted=p, found=p <= config.level)
            for finding, p in zip(drift.findings, adjusted, strict=False)
        )
        result[name] = _explained_by_lots(replace(drift, findings=decided), pairs[name], config)
    return result


def _too_few(training: Descriptors, new: Descriptors, config: DriftConfig) -> Drift | None:
    n, m = len(training), len(new)
    if training.features.shape[1] != new.features.shape[1]:
        raise UserError(
            f"drift: training images have {training.features.shape[1]} channels, new images {new.features.shape[1]}: "
            "describe both with the same backbone"
        )
    if min(n, m) >= config.least:
        return None
    which = f"{m} new images" if m < config.least else f"{n} training images"
    return Drift(n, m, config.level, (), f"{which}, fewer than {config.least} (drift.least)")


def _test(training: Descriptors, new: Descriptors, config: DriftConfig, seed: int) -> Drift:
    """The tests, each for itself."""
    with threadpool_limits(1):
        results = _run_tests(training, new, config, seed)
    findings = tuple(
        Finding(name, statistic, p, p, effect, False)
        for name, (statistic, p, effect) in zip(TESTS, results, strict=True)
    )
    return Drift(len(training), len(new), config.level, findings)


def _explained_by_lots(drift: Drift, pair: Pair, config: DriftConfig) -> Drift:
    from stages.drift.lots import compare_lots

    found = frozenset(finding.name for finding in drift.findings if finding.found)
    lots = compare_lots(*pair, config.neighbours) if found else None
    if lots is None:
        return drift
    return replace(drift, lots=lots.words(found), is_new_lot=found <= lots.explained)


TestResult = tuple[float, float, float | None]
"""Statistic, p value, effect."""


def _run_tests(training: Descriptors, new: Descriptors, config: DriftConfig, seed: int) -> list[TestResult]:
    """The results of all tests, in the order of `TESTS`."""
    from scipy.spatial.distance import cdist
    from scipy.stats import ks_2samp

    generator = np.random.default_rng([seed, 0x64726966])
    features, new_features = (
        values[np.sort(generator.permutation(len(values))[:MAX_COMPARED])]
        for values in _standardise(training.features, new.features)
    )
    n, m, k = len(features), len(new_features), min(config.neighbours, len(features) - 1)
    both = np.concatenate([features, new_features])
    distances = cdist(both, both)  # (K, K)
    energy, energy_p = energy_test(distances, n, relabellings(n, m, config.permutations, generator, _AT_ONCE))
    order = nearest_order(distances)
    labels = relabellings(n, m, config.permutations, generator, _AT_ONCE)
    largest, distance_p = distance_test(distances, order, k, labels)
    nearest = nearest_distances(distances, order, (np.arange(n + m) >= n)[None], k)[0]
    results: list[TestResult] = [
        (energy, energy_p, feature_effect(training.features, new.features)),
        (largest, distance_p, mean_effect(nearest[:n], nearest[n:])),
    ]
    for values, new_values in ((training.brightness, new.brightness), (training.sharpness, new.sharpness)):
        found = ks_2samp(values, new_values, method="auto")  # exact up to 10,000 images
        results.append((float(found.statistic), float(found.pvalue), mean_effect(values, new_values)))
    return results


def _standardise(a: NDArray[np.float32], b: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(N, C), (M, C) with mean 0 and standard deviation 1 over both sets in each channel; a constant channel is 0."""
    both = np.concatenate([a, b])
    centre, spread = both.mean(0, dtype=np.float64), both.std(0, dtype=np.float64)
    spread[is_constant(spread, centre)] = np.inf
    standardised = ((both - centre) / spread).astype(np.float32)
    return standardised[: len(a)], standardised[len(a) :]
