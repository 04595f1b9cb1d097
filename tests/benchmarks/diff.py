"""`burnish diff`: its time and memory on 10,000 test images, and whether its intervals cover the truth.

    python -m tests.benchmarks.diff --json FILE [--quick]

Time and peak memory: the whole process, imports included, on two commits of a drawn project with seven detectors that
all changed, 2,000 resamples. Coverage: the share of 1,000 simulations whose 95 % interval holds the true difference of
AUROC, of two correlated detectors with normal scores (150 defects, 150 good images; AUROC 0.760 and 0.821).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

from stages.paired.paired import area_differences
from tests.benchmarks.machine import machine
from tests.pipeline.compare import toy

DETECTORS = ("ear", "intra", "knn", "padim", "pca", "gabor", "fused")
DIFF = """
import atexit, sys
from pathlib import Path

def note():  # ru_maxrss would be the parent's, which is larger
    status = Path("/proc/self/status").read_text()
    Path(sys.argv[1]).write_text(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))

atexit.register(note)
from pipeline.compare.command import Options, run_diff

run_diff(Path.cwd(), "HEAD~1", "HEAD", Options(resamples=int(sys.argv[2])))
"""


def drawn_run(table: Any, shift: float, seed: int) -> toy.Run:
    found = {("tile", name): toy.scores(table, shift, 10 * seed + i) for i, name in enumerate(DETECTORS)}
    return toy.Run(table, found, params={"seed": seed, "data": {"source": "folder"}, "knn": {"k": seed}}, pictures=True)


def measure(scratch: Path, images: int, resamples: int) -> dict[str, Any]:
    """One diff of two commits, in a process of its own."""
    table = toy.manifest(images // 2, images // 2, images // 4, images // 20)
    project = toy.project_of(scratch / "project", drawn_run(table, 1.2, 0), drawn_run(table, 1.3, 1))
    peak = scratch / "peak"
    command = [sys.executable, "-c", DIFF, str(peak), str(resamples)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    before, start = os.times(), time.perf_counter()
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - start, os.times()
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    figures = {"wall_s": round(wall, 2), "cpu_s": round(cpu, 2), "peak_mb": round(int(peak.read_text()) / 1024, 1)}
    return {"images": images, "detectors": len(DETECTORS), "resamples": resamples, **figures}


def coverage(simulations: int, resamples: int) -> dict[str, Any]:
    """Share of simulations whose interval holds the truth."""
    normal, size, shifts, alike = NormalDist(), 150, (1.0, 1.3), 0.7
    truth = normal.cdf(shifts[1] / 2**0.5) - normal.cdf(shifts[0] / 2**0.5)
    labels = np.arange(2 * size) < size
    covered = 0
    for number in range(simulations):
        rng = np.random.default_rng([0, number])
        scores = alike * rng.normal(size=2 * size) + (1 - alike**2) ** 0.5 * rng.normal(size=(2, 2 * size))
        a, b = scores + np.array(shifts)[:, None] * labels
        low, high = area_differences({0: (a, b)}, labels, resamples, 0.95, number)[0]["image_auroc"].interval or (0, 0)
        covered += low <= truth <= high
    return {"simulations": simulations, "resamples": resamples, "coverage": covered / simulations}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="200 images, 100 resamples, 50 simulations")
    options = parser.parse_args()
    images, resamples, simulations = (200, 100, 50) if options.quick else (10_000, 2000, 1000)
    with tempfile.TemporaryDirectory() as scratch:
        rows = [measure(Path(scratch), images, resamples), coverage(simulations, resamples)]
    summary = {
        "seconds_10k": rows[0]["wall_s"],
        "peak_mb": rows[0]["peak_mb"],
        "coverage_95": rows[1]["coverage"],
    }
    for row in (*rows, summary):
        print(*(f"{key} {value}" for key, value in row.items()), sep="  ")
    content = {"name": "diff", "machine": machine(), "rows": rows, "summary": summary}
    options.json.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
