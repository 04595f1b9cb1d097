"""Nearest neighbours in a memory of a million vectors of 192 dimensions: peak memory, seconds to draw and to search.

    python -m tests.benchmarks.knn --json FILE [--quick]

Measured in a process of its own, which draws the memory from the 14 x 14 patches of normal images (half precision, as
features are stored) and searches it for those of a few images. `peak_mb_1m`: the most that this process held,
interpreter and torch included. `--quick`: a tenth of the memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.machine import machine

PATCHES, CHANNELS = 196, 192


def search(size: int, images: int) -> dict[str, Any]:
    """Draw and search a memory, here."""
    from stages.detectors.shared.nearest import Search, sample_memory

    generator = np.random.default_rng(0)
    normal = -(-size // PATCHES)
    blocks = (generator.standard_normal((1, 14, 14, CHANNELS), np.float32).astype(np.float16) for _ in range(normal))
    start = time.perf_counter()
    memory = sample_memory(blocks, normal, PATCHES, size, 0)
    drawing = time.perf_counter() - start
    found = Search(memory, neighbours=3)
    start = time.perf_counter()
    for image in range(images):
        found.distances(generator.standard_normal((PATCHES, CHANNELS), np.float32), owner=image)
    seconds = (time.perf_counter() - start) / images
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    row = {"vectors": len(memory.features), "channels": CHANNELS, "peak_mb": round(peak, 1)}
    return row | {"drawn_s": round(drawing, 1), "s_per_image": round(seconds, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--inside", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        given.json.write_text(json.dumps(search(given.inside, 3)))
        return
    size = 100_000 if given.quick else 1_000_000
    command = [sys.executable, "-m", "tests.benchmarks.knn", "--inside", str(size), "--json", str(given.json)]
    subprocess.run(command, check=True)
    row = json.loads(given.json.read_text())
    print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    result = {"name": "knn", "machine": machine(), "rows": [row], "summary": {"peak_mb_1m": row["peak_mb"]}}
    given.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
