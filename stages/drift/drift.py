"""Whether new images are like those that the detectors learned from.

Four tests: of the mean features as a whole (energy distance, by permutation), and of the distance to the training set,
the brightness and the sharpness (Kolmogorov-Smirnov). Holm's procedure shares the level among them.

Sources: Székely and Rizzo, "Energy statistics", J. Stat. Planning and Inference 143 (2013), section 6 (two samples, by
permutation); Phipson and Smyth, "Permutation p-values should never be zero", SAGMB 9 (2010), equation 2; Holm, "A
simple sequentially rejective multiple test procedure", Scand. J. Statistics 6 (1979).
Deviations: channels are scaled by the standard deviation of both sets together, not of the training set alone: only
then may labels be exchanged, and the test keeps its level with few images. Of more than `MOST` images of a set, `MOST`
are drawn for what costs the square of their number.

Images are taken for independent: many pictures of few parts look like a drift. Both sets must be strangers to the
network that made the features, or both its training images; what it has seen lies elsewhere in its feature space.

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

MOST = 1000
"""Images of each set, at most, that are compared in pairs."""
_AT_ONCE = 256
WORDS = {
    "features": ("the features moved by", "the features moved by"),
    "distance": ("farther from the nearest training images by", "closer to the nearest training images by"),
    "brightness": ("brighter by", "darker by"),
    "sharpness": ("sharper by", "more blurred by"),
}
"""Of each test: what a positive and what a negative effect means."""


@dataclass(frozen=True)
class Finding:
    """One test."""

    name: str
    """One of `TESTS`."""
    statistic: float
    """Energy distance (features), else the largest difference of the distribution functions."""
    p_value: float
    """As if it were the only test."""
    adjusted: float
    """After Holm, 0..1: found where at most the level."""
    effect: float | None
    """Difference of the means, in standard deviations of the training images; of the features the root mean square over
    channels, less what chance adds, 0 or more. None where the training images do not differ at all."""
    found: bool

    def words(self) -> str:
        """In one line."""
        chance = f"p = {self.adjusted:.2g}"
        if not self.found:
            return f"{self.name}: no difference shown ({chance})"
        if self.effect is None:
            return f"{self.name}: differs, while all training images are equal in it ({chance})"
        phrase = WORDS[self.name][self.effect < 0]
        return f"{self.name}: {phrase} {abs(self.effect):.2g} training standard deviations ({chance})"


@dataclass(frozen=True)
class Drift:
    """What the comparison says."""

    training: int
    new: int
    level: float
    findings: tuple[Finding, ...]
    """In the order of `TESTS`; empty where no test was made."""
    reason: str
    """Why no test was made; empty where it was."""

    @property
    def drifted(self) -> bool:
        """Whether any test found a difference."""
        return any(one.found for one in self.findings)

    def lines(self) -> list[str]:
        """For a report."""
        sets = f"{self.new} new images against {self.training} of training"
        if self.reason:
            return [f"drift not tested: {self.reason}"]
        verdict = "drift" if self.drifted else "no drift shown"
        return [f"{verdict}: {sets}, level {self.level:g}", *(one.words() for one in self.findings)]

    def to_json(self) -> dict[str, Any]:
        """JSON values, verdict and words included."""
        findings = [{**asdict(one), "words": one.words()} for one in self.findings]
        return {**asdict(self), "drifted": self.drifted, "findings": findings}


def compare(training: Descriptors, new: Descriptors, config: DriftConfig, seed: int) -> Drift:
    """Compare M new images with N training images.

    Raises:
        UserError: the features are of different networks.
    """
    n, m = len(training), len(new)
    if training.features.shape[1] != new.features.shape[1]:
        raise UserError(
            f"drift: training images have {training.features.shape[1]} channels, new ones {new.features.shape[1]}: "
            "describe both with one backbone"
        )
    if min(n, m) < config.least:
        which = f"{m} new images" if m < config.least else f"{n} training images"
        return Drift(n, m, config.level, (), f"{which}, fewer than {config.least} (drift.least)")
    with threadpool_limits(1):
        found = _tests(training, new, config, seed)
    adjusted = holm([p for _, p, _ in found])
    findings = tuple(
        Finding(name, statistic, p, after, effect, after <= config.level)
        for name, (statistic, p, effect), after in zip(TESTS, found, adjusted, strict=True)
    )
    return Drift(n, m, config.level, findings, "")


Tested = tuple[float, float, float | None]
"""Statistic, p value, effect."""


def _tests(training: Descriptors, new: Descriptors, config: DriftConfig, seed: int) -> list[Tested]:
    """In the order of `TESTS`."""
    generator = np.random.default_rng([seed, 0x64726966])
    old, fresh = _scaled(training.features, new.features)
    rows, fresh_rows = (np.sort(generator.permutation(len(one))[:MOST]) for one in (old, fresh))
    statistic, p = energy_test(old[rows], fresh[fresh_rows], config.permutations, generator)
    k = min(config.neighbours, len(old) - 1)
    known = nearest(old, old[rows], k, own=rows)
    return [
        (statistic, p, _moved(training.features, new.features)),
        _one(known, nearest(old, fresh[fresh_rows], k)),
        _one(training.brightness, new.brightness),
        _one(training.sharpness, new.sharpness),
    ]


def _scaled(a: NDArray[np.float32], b: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(N, C), (M, C) with each channel's mean 0 and standard deviation 1 over both; one that is constant stays 0."""
    both = np.concatenate([a, b])
    centre, spread = both.mean(0, dtype=np.float64), both.std(0, dtype=np.float64)
    spread[_constant(spread, centre)] = np.inf
    scaled = ((both - centre) / spread).astype(np.float32)
    return scaled[: len(a)], scaled[len(a) :]


def _constant(spread: Any, centre: Any) -> Any:
    """Whether a standard deviation is but the rounding of the mean."""
    return spread <= 1e-9 * np.abs(centre)


def _moved(training: NDArray[np.float32], new: NDArray[np.float32]) -> float | None:
    """Root mean square, over channels that vary in training, of the means' difference in standard deviations.

    The square of a difference of means is, by chance alone, 1 / N + 1 / M on average; that is taken off.
    """
    centre, spread = training.mean(0, dtype=np.float64), training.std(0, dtype=np.float64)
    kept = ~_constant(spread, centre)
    if not kept.any():
        return None
    moved = ((new.mean(0, dtype=np.float64) - centre)[kept] / spread[kept]) ** 2
    return float(np.sqrt(max(0.0, moved.mean() - 1 / len(training) - 1 / len(new))))


def _one(known: NDArray[np.floating], new: NDArray[np.floating]) -> Tested:
    """Kolmogorov-Smirnov between (N,) and (M,) values, and the difference of their means."""
    from scipy.stats import ks_2samp

    result = ks_2samp(known, new, method="asymp")
    centre, spread = known.mean(dtype=np.float64), known.std(dtype=np.float64)
    effect = None if _constant(spread, centre) else float((new.mean(dtype=np.float64) - centre) / spread)
    return float(result.statistic), float(result.pvalue), effect


def nearest(
    memory: NDArray[np.float32], asked: NDArray[np.float32], neighbours: int, own: NDArray[np.int64] | None = None
) -> NDArray[np.float64]:
    """Mean distance of K images (K, C) to the nearest `neighbours` of N others (N, C) -> (K,).

    Args:
        own: (K,) rows of `memory` that are the images asked about, which are left out; None: they are not in it.
    """
    squares = np.square(memory).sum(1, dtype=np.float64)
    found = np.empty(len(asked))
    for rows in batches(len(asked), _AT_ONCE):
        part = asked[rows]
        apart = squares + np.square(part).sum(1, dtype=np.float64)[:, None] - 2 * (part @ memory.T)  # (B, N)
        if own is not None:
            apart[np.arange(len(part)), own[rows]] = np.inf
        closest = np.partition(apart, neighbours - 1, axis=1)[:, :neighbours]
        found[rows] = np.sqrt(closest.clip(0)).mean(1)
    return found


def energy_test(
    a: NDArray[np.float32], b: NDArray[np.float32], permutations: int, generator: np.random.Generator
) -> tuple[float, float]:
    """Energy distance between two samples (n, C), (m, C) of at most `MOST` each, and its p value.

    The statistic is 2 E|X - Y| - E|X - X'| - E|Y - Y'|, each mean over all pairs (Székely and Rizzo, equation 6.1,
    without the factor n m / (n + m), which no permutation changes).
    """
    from scipy.spatial.distance import cdist

    n, m = len(a), len(b)
    both = np.concatenate([a, b])
    apart = cdist(both, both)  # (K, K)
    total, of_rows = apart.sum(), apart.sum(1)
    true = (np.arange(n + m) >= n)[None]  # (1, K) which images are of the second sample
    relabelled = generator.permuted(true.repeat(permutations, 0), axis=1)  # (P, K)
    values = []
    for labels in (true, *(relabelled[rows] for rows in batches(permutations, _AT_ONCE))):
        second = labels.astype(np.float64)  # (B, K)
        within = np.einsum("bk,bk->b", second @ apart, second)
        across = second @ of_rows - within
        values.append(2 * across / (n * m) - within / m**2 - (total - 2 * across - within) / n**2)
    observed, others = float(values[0][0]), np.concatenate(values[1:])
    as_large = int((others >= observed - 1e-9 * abs(observed)).sum())  # equal but for rounding is equal
    return observed, (1 + as_large) / (1 + permutations)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p values: with those at most the level rejected, any false rejection at all has at most that chance."""
    order = np.argsort(p_values, kind="stable")
    factors = len(p_values) - np.arange(len(p_values))
    raised = np.minimum(np.maximum.accumulate(np.asarray(p_values)[order] * factors), 1.0)
    adjusted = np.empty(len(p_values))
    adjusted[order] = raised
    return [float(value) for value in adjusted]
