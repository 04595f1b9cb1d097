"""Cost of the least-squares solver: `python -m tests.benchmarks.dvt --json FILE [--quick]`.

Prints a row for each size and writes {"name", "machine", "rows", "summary"}. CPU seconds of the best of a few runs,
with lambda chosen among the default candidates and three robust passes; peak memory of a process that holds the tokens.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from stages.denoise.config import DenoiseConfig
from stages.denoise.least_squares import solve
from stages.denoise.views import make_views

SIZES = {"14": (14, 192, 32, 5), "37": (37, 384, 96, 2)}
"""h = w, C, views, runs."""
QUICK = {"14": (14, 48, 8, 1), "37": (37, 16, 8, 1)}


def measure(side: int, channels: int, views: int, runs: int) -> dict[str, float]:
    """One row: plane waves + artifact + noise + 2 % outliers."""
    rng = np.random.default_rng(0)
    config = DenoiseConfig(views=views, nodes_per_patch=2)
    image = np.zeros((side, side, 3), np.uint8)
    coords = make_views(image, side, (side, side), config, 0, "benchmark").coords
    direction = rng.uniform(-3, 3, (channels, 2))
    tokens = np.sin(2 * np.pi * (coords @ direction.T)).astype(np.float32)
    tokens += 0.5 * rng.standard_normal((side, side, channels), dtype=np.float32)
    tokens += 0.1 * rng.standard_normal(tokens.shape, dtype=np.float32)
    outlier = rng.random(tokens.shape[:3]) < 0.02
    tokens[outlier] *= 20
    seconds = []
    for _ in range(runs):
        start = time.process_time()
        found = solve(tokens, coords, (side, side), config)
        seconds.append(time.process_time() - start)
    return {
        "side": side,
        "channels": channels,
        "views": views,
        "nodes_per_patch": 2,
        "cpu_s": round(min(seconds), 4),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "held_out_r2": round(found.diagnostics["held_out_r2"], 4),
    }


def machine() -> dict[str, object]:
    return {
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it works")
    parser.add_argument("--size", choices=SIZES, help="measure this size alone, in this process")
    options = parser.parse_args()
    sizes = QUICK if options.quick else SIZES
    if options.size:
        options.json.write_text(json.dumps(measure(*sizes[options.size])))
        return
    rows = {}
    for name in sizes:  # a process each, so that the peak is its own
        command = [sys.executable, "-m", "tests.benchmarks.dvt", "--json", str(options.json), "--size", name]
        subprocess.run(command + ["--quick"] * options.quick, check=True)
        rows[name] = json.loads(options.json.read_text())
        print(*(f"{key} {value}" for key, value in rows[name].items()), sep="  ")
    summary = {
        "solve_14_cpu_s": rows["14"]["cpu_s"],
        "solve_37_cpu_s": rows["37"]["cpu_s"],
        "solve_37_peak_mb": rows["37"]["peak_mb"],
    }
    result = {"name": "dvt", "machine": machine(), "rows": list(rows.values()), "summary": summary}
    options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
