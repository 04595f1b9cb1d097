"""`burnish diff`: its time and memory on 10,000 test images.

    python -m tests.benchmarks.diff --json FILE [--quick]

Time and peak memory: the whole process, imports included, on two commits of a drawn project with seven detectors that
all changed, 2,000 resamples. Whether the intervals hold the true differences: `tests.benchmarks.intervals`.
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
from typing import Any

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="200 images, 100 resamples")
    options = parser.parse_args()
    images, resamples = (200, 100) if options.quick else (10_000, 2000)
    with tempfile.TemporaryDirectory() as scratch:
        row = measure(Path(scratch), images, resamples)
    print(*(f"{key} {value}" for key, value in row.items()), sep="  ")
    summary = {"seconds_10k": row["wall_s"], "peak_mb": row["peak_mb"]}
    content = {"name": "diff", "machine": machine(), "rows": [row], "summary": summary}
    options.json.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
