"""The recipe for a detector in pipeline/README.md, applied to a project as it stands there, and run."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd

from tests.conftest import ROOT, TINY, change_params, make_project

RUN = """
from pipeline.project.params import load_params
from pipeline.project.stage_table import MATRIX
from pipeline.stage_io.run_stage import run

for stage in ("inputs", "train", "infer", "fuse", "score", "report"):
    run(stage, *(("tile", "spread") if stage in MATRIX else ()))
"""


def recipe() -> str:
    """The commit that the README shows."""
    page = (ROOT / "pipeline/README.md").read_text()
    section = page[page.index("### A detector") :]
    found = re.search(r"```diff\n(.*?)```", section, flags=re.DOTALL)
    assert found is not None
    return found[1]


def run(project: Path, environment: dict[str, str], *command: str, text: str | None = None) -> str:
    done = subprocess.run(
        command, cwd=project, env=environment, input=text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_recipe_for_a_detector_makes_one_that_runs(
    finished: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    commit = recipe()
    assert len(re.findall(r"^diff --git", commit, flags=re.MULTILINE)) <= 4
    project = make_project(tmp_path / "project", tiny=False)
    run(project, environment, "git", "apply", "-", text=commit)
    change_params(project, TINY)
    change_params(project, {"detectors": ["spread"], "compute": {"executor": "serial", "device": "cpu"}})
    for name in ("raw", "backbone", "features", "denoised", "models/denoiser", "audit", "probe"):
        shutil.copytree(finished / "data" / name, project / "data" / name)
    run(project, environment, sys.executable, "-c", RUN)
    metrics = json.loads((project / "data/metrics/metrics.json").read_text())
    assert list(metrics["tile"]) == ["spread"]
    assert metrics["tile"]["spread"]["image_auroc"] == 1.0  # the defects are bright spots
    table = pd.read_parquet(project / "data/predictions/tile-spread.parquet")
    assert table["decision"].notna().all()
    assert "spread" in (project / "data/report/body.html").read_text()
    assert "train@tile-spread" in run(project, environment, "dvc", "stage", "list", "--name-only")
