"""Projects to copy: one whose stages have all run, a toy of another dvc.yaml; and one Prefect server for all runs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from pipeline.orchestration.processes import ProcessGroup
from pipeline.orchestration.server_discovery import answers
from pipeline.orchestration.server_process import free_port, server_command
from pipeline.orchestration.server_settings import PREFECT_SETTINGS
from tests.conftest import change_params, make_project
from tests.pipeline import toy_project as toy

STAGES = """
from pipeline.project.stage_table import MATRIX, STAGES
from pipeline.stage_io.run_stage import run as run_stage
from pipeline.project.params import load_params

detectors = load_params().detectors
for name in STAGES:
    for which in [("tile", one) for one in detectors] if name in MATRIX else [()]:
        run_stage(name, *which)
"""
"""All in one process, without DVC: imports are most of what tiny stages cost."""


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Path:
    """Do not change it: copy it. It has no bundle yet. All workers of pytest-xdist share it."""
    common = tmp_path_factory.getbasetemp()
    common = common.parent if "PYTEST_XDIST_WORKER" in os.environ else common
    project, complete = common / "finished" / "project", common / "finished.complete"
    with FileLock(common / "finished.lock"):
        if not complete.exists():
            _run_stages(make_project(project), environment)
            complete.touch()
    return project


def _run_stages(project: Path, environment: dict[str, str]) -> None:
    detectors = {"detectors": ["ear", "knn", "pca"], "fused": {"detectors": ["ear", "knn"]}}
    change_params(project, {**detectors, "knn": {"features": "clean"}})
    change_params(project, {"compute": {"executor": "serial", "device": "cpu"}})
    for command in ([sys.executable, "-c", STAGES], ["dvc", "commit", "--force", "--quiet"]):
        done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy project in which nothing has run."""
    root = tmp_path_factory.mktemp("toy") / "project"
    toy.build(root)
    return root


@pytest.fixture(scope="session")
def reference(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy project in which plain `dvc repro` ran everything."""
    root = toy.copy(template, tmp_path_factory.mktemp("reference") / "project")
    toy.dvc(root, "repro")
    assert toy.journal(root) == toy.ORDER
    return root


@pytest.fixture
def fresh(template: Path, tmp_path: Path) -> Path:
    """A copy in which nothing has run."""
    return toy.copy(template, tmp_path / "fresh")


@pytest.fixture
def complete(reference: Path, tmp_path: Path) -> Path:
    """A copy in which everything is up to date."""
    return toy.copy(reference, tmp_path / "complete")


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Prefect server that lives as long as the tests."""
    home = tmp_path_factory.mktemp("prefect")
    port = free_port()
    api = f"http://127.0.0.1:{port}/api"
    environment = toy.environment(PREFECT_HOME=str(home), **PREFECT_SETTINGS)
    environment.pop("PREFECT_API_URL", None)
    with (home / "server.log").open("wb") as log:
        group = ProcessGroup(server_command(port), log, home, environment)
    try:
        toy.wait_for(lambda: answers(api) or not group.running(), 120)
        assert group.running(), (home / "server.log").read_text()
        yield api
    finally:
        group.stop()
        group.wait()


@pytest.fixture
def prefect_api(shared_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs in this test use the shared server."""
    monkeypatch.setenv("PREFECT_API_URL", shared_server)
    return shared_server
