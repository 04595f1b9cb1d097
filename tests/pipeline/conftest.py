"""A project whose stages have all run, for tests of what comes after them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import change_params, make_project

STAGES = """
from pipeline import stage_io
from pipeline.params import load_params

detectors = load_params().detectors
for name in stage_io.STAGES:
    for which in [("tile", one) for one in detectors] if name in stage_io.MATRIX else [()]:
        stage_io.run(name, *which)
"""
"""All in one process, without DVC: imports are most of what tiny stages cost."""


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Path:
    """Do not change it: copy it. It has no bundle yet."""
    project = make_project(tmp_path_factory.mktemp("finished") / "project")
    detectors = {"detectors": ["ear", "knn", "pca"], "fused": {"detectors": ["ear", "knn"]}}
    change_params(project, {**detectors, "knn": {"features": "clean"}})
    change_params(project, {"compute": {"executor": "serial", "device": "cpu"}})
    for command in ([sys.executable, "-c", STAGES], ["dvc", "commit", "--force", "--quiet"]):
        done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return project
