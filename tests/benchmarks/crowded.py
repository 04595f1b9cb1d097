"""EAR's training steps on all cores, alone and beside a process that keeps one core busy.

    python -m tests.benchmarks.crowded --json FILE [--quick]

With the spinning that `stages` sets, and with what libgomp has by default (300,000). Median seconds a step; `gain` is
the default's over ours, crowded, and `cost` ours over the default's, alone.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks.machine import machine

if TYPE_CHECKING:
    from collections.abc import Iterator

SPINNING = {"ours": None, "default": "300000"}


def steps(count: int) -> None:
    """Print the median seconds of a training step of EAR in pixels."""
    from stages.detectors.ear.config import EarConfig
    from stages.detectors.ear.restore import Recovery  # first, so that `stages` comes before torch

    import torch  # isort: skip

    task, pixels, times = Recovery(EarConfig(space="pixels", width=16, depth=3), 3), torch.rand(16, 3, 64, 64), []
    cut = torch.ones(16, 1, 64, 64, dtype=torch.bool)
    optimiser = torch.optim.Adam(task.parameters())
    for _ in range(count + 1):
        start = time.perf_counter()
        optimiser.zero_grad()
        task.loss((pixels, pixels, cut))["loss"].backward()
        optimiser.step()
        times.append(time.perf_counter() - start)
    print(statistics.median(times[1:]))


@contextmanager
def busy() -> Iterator[None]:
    """One core is kept busy."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def measured(spinning: str | None, count: int) -> float:
    environment = {key: value for key, value in os.environ.items() if key not in ("OMP_NUM_THREADS", "GOMP_SPINCOUNT")}
    if spinning is not None:
        environment["GOMP_SPINCOUNT"] = spinning
    command = [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.crowded", "--steps", str(count)]
    return float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--steps", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.steps:
        steps(given.steps)
        return
    count = 1 if given.quick else 15
    alone = {name: measured(spinning, count) for name, spinning in SPINNING.items()}
    with busy():
        crowded = {name: measured(spinning, count) for name, spinning in SPINNING.items()}
    summary = {"gain": crowded["default"] / crowded["ours"], "cost": alone["ours"] / alone["default"]}
    rows = [{"spinning": name, "alone_s": alone[name], "crowded_s": crowded[name]} for name in SPINNING]
    result = {"name": "crowded", "machine": machine(), "rows": rows, "summary": summary}
    print(json.dumps(result, indent=2))
    if given.json is not None:
        given.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
