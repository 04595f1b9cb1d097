"""Coverage of the 95 % intervals: how often they hold the true value, with independent and with related images.

    python -m tests.benchmarks.intervals --json FILE [--quick]

Drawn scores whose true values are known: groups of 2 to 20 images, and a share of the variance between groups that
images of one group have in common. `independent`: each image is its own group. `by image` is the interval that takes
related images for independent ones. `--quick`: 100 simulations of each case.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.paired.paired import area_differences, rate_difference
from stages.score.intervals import rate_interval
from tests.benchmarks.machine import machine

CONFIDENCE = 0.95
RESAMPLES = 400
BLOCK = 20
"""Simulations that share the sizes of their groups."""
SHIFTS = (1.0, 1.3)
"""How far the scores of defects lie above those of good images, in standard deviations: models A and B."""
Interval = tuple[float, float]


def group_sizes(rng: np.random.Generator, groups: int, related: bool) -> NDArray[np.int64]:
    """(N,) the group of each image."""
    return np.repeat(np.arange(groups), rng.integers(2, 21, groups)) if related else np.arange(groups)


def draw(
    rng: np.random.Generator, groups: NDArray[np.int64], labels: NDArray[np.bool_], share: float
) -> NDArray[np.float64]:
    """(BLOCK, 2, N) scores of A and B. The models see the same images, and are alike in half of what they see."""
    images, count = len(groups), int(groups.max()) + 1

    def part(size: int) -> NDArray[np.float64]:
        both, own = rng.normal(size=(BLOCK, 1, size)), rng.normal(size=(BLOCK, 2, size))
        return np.asarray(0.5**0.5 * both + 0.5**0.5 * own)

    scores = share**0.5 * part(count)[:, :, groups] + (1 - share) ** 0.5 * part(images)
    return np.asarray(scores + np.array(SHIFTS)[:, None] * labels)


def areas(groups: int, share: float, related: bool, mixed: bool, seed: int) -> Iterator[tuple[str, float, Interval]]:
    """(what, estimate, interval) of AUROC of B and of the difference B - A, for BLOCK simulations."""
    rng = np.random.default_rng(seed)
    group = group_sizes(rng, groups, related)
    labels = rng.random(len(group)) < 0.5 if mixed else group % 2 == 0
    drawn = draw(rng, group, labels, share)
    flat = np.zeros(len(group))  # AUROC 0.5, whatever the resample
    pairs: dict[tuple[str, int], tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
    for number, (a, b) in enumerate(drawn):
        pairs |= {("AUROC", number): (flat, b), ("difference of AUROC", number): (a, b)}
    for kind, of in (("", group), (", by image", np.arange(len(group)))):
        if kind and not related:
            continue
        found = area_differences(pairs, labels, of, RESAMPLES, CONFIDENCE, seed)
        for (what, _), metrics in found.items():
            difference = metrics["image_auroc"]
            assert difference.interval is not None
            yield f"{what}{kind}", difference.value, difference.interval


def rates(groups: int, share: float, related: bool, rate: float, seed: int) -> Iterator[tuple[str, float, Interval]]:
    """The same of an error rate of B, and of the difference of two, with errors of beta-binomial groups."""
    rng = np.random.default_rng(seed)
    group = group_sizes(rng, groups, related)
    for _ in range(BLOCK):
        both = []
        for level in (rate, 0.7 * rate):
            chance = level
            if related:
                spread = (1 - share) / share
                chance = rng.beta(level * spread, (1 - level) * spread, groups)[group]
            both.append(rng.random(len(group)) < chance)
        for kind, of in (("", group), (", by image", np.arange(len(group)))):
            if kind and not related:
                continue
            low, high = rate_interval(both[1], of, CONFIDENCE)
            yield f"rate {0.7 * rate:g}{kind}", float(both[1].mean()), (low, high)
            difference = rate_difference(*both, of, CONFIDENCE)
            assert difference.interval is not None
            yield f"difference of rates {rate:g}{kind}", difference.value, difference.interval


def coverage(
    simulate: Callable[[int], Iterator[tuple[str, float, Interval]]], simulations: int
) -> list[dict[str, Any]]:
    """By what is estimated: the share of intervals that hold the mean of all estimates, and their mean width."""
    estimates: dict[str, list[float]] = {}
    intervals: dict[str, list[Interval]] = {}
    for seed in range(-(-simulations // BLOCK)):
        for what, estimate, interval in simulate(seed):
            estimates.setdefault(what, []).append(estimate)
            intervals.setdefault(what, []).append(interval)
    rows = []
    for what, ends in intervals.items():
        truth = float(np.mean(estimates[what]))
        low, high = np.array(ends).T
        held = float(((low <= truth) & (truth <= high)).mean())
        rows.append({"of": what, "coverage": round(held, 4), "width": round(float((high - low).mean()), 4)})
    return rows


def cases(quick: bool) -> Iterator[tuple[dict[str, Any], Callable[[int], Iterator[tuple[str, float, Interval]]]]]:
    """What is simulated, and how."""
    for groups in (20,) if quick else (6, 10, 20, 40):
        for share in (0.3,) if quick else (0.1, 0.3):
            for mixed in (False, True):
                case = {"groups": groups, "share": share, "labels": "both in a group" if mixed else "one a group"}
                yield case, lambda seed, g=groups, s=share, m=mixed: areas(g, s, True, m, seed)  # type: ignore[misc]
            for rate in (0.1, 0.4):
                yield (
                    {"groups": groups, "share": share},
                    lambda seed, g=groups, s=share, r=rate: rates(g, s, True, r, seed),  # type: ignore[misc]
                )
    for images in (40,) if quick else (40, 300):
        case = {"groups": images, "labels": "independent"}
        yield case, lambda seed, n=images: areas(n, 0.0, False, True, seed)  # type: ignore[misc]
        for rate in (0.1, 0.4):
            yield case, lambda seed, n=images, r=rate: rates(n, 0.0, False, r, seed)  # type: ignore[misc]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="100 simulations of few cases")
    options = parser.parse_args()
    rows = []
    for case, simulate in cases(options.quick):
        for row in coverage(simulate, 100 if options.quick else 2000):
            rows.append(case | row)
            print(*(f"{key} {value}" for key, value in rows[-1].items()), sep="  ", flush=True)
    related = [row["coverage"] for row in rows if "share" in row and "by image" not in row["of"] and row["groups"] > 9]
    summary = {"least": min(related), "most": max(related)}
    content = {"name": "intervals", "machine": machine(), "rows": rows, "summary": summary}
    options.json.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
