"""The report of 1,000 test images: time of the stage, imports included, its memory, and the size of the page.

    python -m tests.benchmarks.report --json FILE [--quick]

All detectors and their fusion, images of 300 x 300 with masks, a threshold each. Only the stage `report` is timed, in a
process of its own; what it reads is drawn. The second row has fifteen categories, as published data sets do: there are
fewer cases of each, so that the page stays small.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.project.paths import REPORT_INDEX
from stages.detectors.registry import CONFIGS
from tests.benchmarks.machine import machine
from tests.conftest import ROOT
from tests.pipeline.report.toy import Shape, make_run

STAGE = """
import resource
from pipeline.project.params import load_params
from pipeline.stage_io.report import report

report(load_params())
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
WHOLE = Shape(detectors=tuple(CONFIGS), good=500, bad=500, validation=80, size=(300, 300), grain=4, map_side=32)


def measure(name: str, shape: Shape) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make_run(folder, shape)
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}){STAGE}"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        )
        seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        row = {
            "project": name,
            "test_images": len(shape.categories) * (shape.good + shape.bad),
            "seconds": round(seconds, 2),
            "cpu_s": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 2),
            "peak_rss_mb": round(int(done.stdout) / 1024, 1),
            "file_mb": round((folder / REPORT_INDEX).stat().st_size / 1e6, 2),
        }
    print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="20 test images, a detector, two categories")
    options = parser.parse_args()
    shape, categories = WHOLE, 15
    if options.quick:
        shape, categories = replace(WHOLE, detectors=("pca",), good=10, bad=10), 2
    many = replace(
        shape, categories=[f"part{i}" for i in range(categories)], good=shape.good // 10, bad=shape.bad // 10
    )
    rows = [measure("one category", shape), measure(f"{categories} categories", many)]
    result = {
        "name": "report",
        "machine": machine(),
        "rows": rows,
        "summary": {"seconds_1k": rows[0]["seconds"], "file_mb": rows[0]["file_mb"]},
    }
    options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
