from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[4]


@pytest.mark.skipif(importlib.util.find_spec("elpv_dataset") is None, reason="the package elpv-dataset is missing")
def test_the_quick_benchmark_measures_floors_that_work(tmp_path: Path) -> None:
    file = tmp_path / "floors.json"
    command = [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.floors", "--quick", "--json", str(file)]
    subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    result = json.loads(file.read_text())
    assert set(result) == {"name", "machine", "rows", "summary"}
    # fold 0 alone; the small Gabor of the quick run is not the floor, but it must be far from chance
    assert {
        row["detector"]: row["mean"] > bound for row, bound in zip(result["rows"], (0.84, 0.75, 0.8), strict=True)
    } == {
        "pca": True,
        "gabor": True,
        "padim": True,
    }
