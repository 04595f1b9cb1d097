"""The whole pipeline with its default parameters in a fresh clone: cold, then unchanged, then `dvc repro` unchanged.

    python -m tests.benchmarks.run --json FILE [--quick] [--keep FOLDER]

`--quick`: the tests' tiny project with one detector instead of the default parameters. Only committed code is measured.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from tests.benchmarks.machine import machine
from tests.conftest import ROOT, change_params, make_project

UNCHANGED_RUNS = 5


class PeakMemory(threading.Thread):
    """Samples the resident memory of a process and all below it, twice a second."""

    def __init__(self, process: psutil.Process) -> None:
        super().__init__(daemon=True)
        self._process, self.peak, self.ended = process, 0, threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.5):
            total = 0
            try:
                for one in (self._process, *self._process.children(recursive=True)):
                    total += one.memory_info().rss
            except psutil.NoSuchProcess:
                continue
            self.peak = max(self.peak, total)


def measured(command: list[str], folder: Path, environment: dict[str, str]) -> tuple[float, float]:
    """(seconds, MB at the peak) of a command that must succeed."""
    start = time.perf_counter()
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL) as process:
        memory = PeakMemory(psutil.Process(process.pid))
        memory.start()
        code = process.wait()
    seconds = time.perf_counter() - start
    memory.ended.set()
    memory.join()
    if code:
        raise SystemExit(f"{' '.join(command)} ended with exit code {code}")
    return seconds, memory.peak / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--keep", type=Path, help="clone to this folder and leave it there, instead of a temporary one")
    options = parser.parse_args()
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    environment.pop("OMP_NUM_THREADS", None)  # the tests' one thread: a user's run has as many as there are cores
    run, repro = [sys.executable, "-m", "pipeline", "run"], ["dvc", "repro"]
    with tempfile.TemporaryDirectory() as scratch:
        project = options.keep or Path(scratch) / "project"
        if not options.quick:
            subprocess.run(["git", "clone", "--quiet", str(ROOT), str(project)], check=True)
        elif not project.exists():
            make_project(project)
            change_params(project, {"detectors": ["pca"]})
        wall_s, peak_mb = measured(run, project, environment)
        times = range(1 if options.quick else UNCHANGED_RUNS)
        noop = [measured(run, project, environment)[0] for _ in times]
        digest = hashlib.sha256((project / "data/metrics/metrics.json").read_bytes()).hexdigest()
        dvc_noop = [measured(repro, project, environment)[0] for _ in times]
    summary: dict[str, Any] = {
        "wall_s": round(wall_s, 1),
        "peak_rss_mb": round(peak_mb),
        "noop_s": round(statistics.median(noop), 2),
        "dvc_noop_s": round(statistics.median(dvc_noop), 2),
    }
    rows = [
        {"what": "burnish run, cold", "seconds": round(wall_s, 1)},
        {"what": "burnish run, nothing changed (median of 5)", "seconds": summary["noop_s"]},
        {"what": "dvc repro, nothing changed (median of 5)", "seconds": summary["dvc_noop_s"]},
    ]
    for row in rows:
        print(f"{row['what']:<45}{row['seconds']:>9}")
    rows.append({"what": "sha256 of metrics.json", "digest": digest})
    print(f"{'peak resident memory, MB':<45}{summary['peak_rss_mb']:>9}")
    result = {"name": "run", "machine": machine(), "rows": rows, "summary": summary}
    options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
