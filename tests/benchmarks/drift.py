"""The drift test: false alarms, what it finds, new lots, and its cost.

    python -m tests.benchmarks.drift --json FILE [--quick]

On drawn images: features with heavy tails and one common direction, brightness and sharpness of their own. Shifts are
in standard deviations of the training images. `new lots`: 8 lots of 15 training images and a new one of 30, whose
brightness differs from lot to lot by one standard deviation. 399 permutations, 1 % of level where nothing else is said.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from stages.drift.config import DriftConfig
from stages.drift.descriptors import Descriptors
from stages.drift.drift import Drift, compare
from tests.benchmarks.machine import machine

SIZES = ((60, 20, 8), (30, 15, 64), (300, 12, 32), (20, 12, 8))
"""Training images, new images, channels."""
PERMUTATIONS = 399
CONFIG = DriftConfig(permutations=PERMUTATIONS)
CHANGES: dict[str, dict[str, float]] = {
    "brightness 0.5": {"brightness": 0.5},
    "brightness 1.0": {"brightness": 1.0},
    "sharpness x 0.7": {"sharpness": 0.7},
    "features 0.3": {"features": 0.3},
    "features 0.6": {"features": 0.6},
}


def drawn(rng: np.random.Generator, count: int, channels: int) -> Descriptors:
    """Images of one kind."""
    features = (rng.normal(size=(count, 1)) + rng.standard_t(4, (count, channels))).astype(np.float32)
    return Descriptors(features, rng.normal(0.5, 0.1, count), rng.gamma(2, 0.01, count))


def changed(images: Descriptors, brightness: float = 0, sharpness: float = 1, features: float = 0) -> Descriptors:
    """Shifts in standard deviations; the factor of the sharpness."""
    spread = np.float32(3**0.5)  # of a feature: 1 of the common direction, 2 of Student's distribution with 4 degrees
    return Descriptors(
        images.features + np.float32(features) * spread,
        images.brightness + 0.1 * brightness,
        images.sharpness * sharpness,
    )


def one(training: Descriptors, new: Descriptors, config: DriftConfig, seed: int) -> Drift:
    return compare({"part": (training, new)}, config, seed)["part"]


def false_alarms(draws: int) -> list[dict[str, Any]]:
    rows = []
    config = DriftConfig(level=0.05, permutations=PERMUTATIONS)
    for n, m, channels in SIZES:
        rng = np.random.default_rng([n, m, channels])
        alarms = [one(drawn(rng, n, channels), drawn(rng, m, channels), config, seed).drifted for seed in range(draws)]
        rows.append(
            {
                "what": f"false alarms at 5 %, {n} training images, {m} new, {channels} channels",
                "share": np.mean(alarms),
            }
        )
    return rows


def power(draws: int) -> list[dict[str, Any]]:
    rows = []
    for m in (12, 30, 100):
        for name, change in CHANGES.items():
            rng = np.random.default_rng(m)
            found = [
                one(drawn(rng, 300, 32), changed(drawn(rng, m, 32), **change), CONFIG, seed).drifted
                for seed in range(draws)
            ]
            rows.append({"what": f"found: {name}, {m} new", "share": np.mean(found)})
    return rows


def new_lots(draws: int) -> list[dict[str, Any]]:
    called = []
    for seed in range(draws):
        rng = np.random.default_rng([seed, 1])
        images = drawn(rng, 8 * 15 + 30, 16)
        lots = np.array([f"lot{i // 15}" for i in range(120)] + ["new"] * 30, dtype=object)
        level = dict(zip(dict.fromkeys(lots), rng.normal(0, 0.1, 9), strict=True))
        brightness = images.brightness + np.array([level[lot] for lot in lots])
        parts = [
            Descriptors(images.features[rows], brightness[rows], images.sharpness[rows], lots[rows])
            for rows in (slice(0, 120), slice(120, 150))
        ]
        result = one(parts[0], parts[1], CONFIG, seed)
        called.append("drift" if result.drifted else "new lot" if result.differs else "nothing")
    return [
        {"what": f"new lots: {name}", "share": called.count(name) / draws} for name in ("drift", "new lot", "nothing")
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="few draws, small sets")
    options = parser.parse_args()
    few = options.quick
    rows = false_alarms(4 if few else 2000) + power(1 if few else 100) + new_lots(2 if few else 200)
    rng = np.random.default_rng(0)
    training, new = drawn(rng, 1000 if few else 10_000, 384), drawn(rng, 100 if few else 2000, 384)
    start = time.process_time()
    one(training, new, DriftConfig(), 0)
    seconds = time.process_time() - start
    rows = [{**row, "share": round(float(row["share"]), 4)} for row in rows]
    for row in rows:
        print(f"{row['what']:<60}{row['share']:>8}")
    print(f"{len(training)} and {len(new)} images of 384 channels: {seconds:.1f} s of CPU")
    result = {"name": "drift", "machine": machine(), "rows": rows, "summary": {"cpu_s": round(seconds, 2)}}
    options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
