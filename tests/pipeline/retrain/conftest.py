"""A toy project with a champion, and a Prefect server for all its runs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.pipeline.retrain.toy import git, make_toy, picture

Retrain = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a server that all tests share, because starting a server takes long."""
    script = """
import sys, threading
from pathlib import Path
from pipeline.orchestration.server import prefect_server
from pipeline.orchestration.server_settings import configure_prefect
configure_prefect(Path("."))
with prefect_server(Path("."), threading.Event(), "tests") as api:
    print(api, flush=True)
    sys.stdin.read()
"""
    home = tmp_path_factory.mktemp("prefect")
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, cwd=home, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        yield process.stdout.readline().strip()
        process.stdin.close()  # ends the server, also if this process is killed


@pytest.fixture(scope="session")
def settings(environment: dict[str, str], prefect_api: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment for commands that use the server."""
    home = tmp_path_factory.mktemp("home")
    return environment | {"PREFECT_API_URL": prefect_api, "PREFECT_HOME": str(home)}


@pytest.fixture(scope="session")
def retrain(settings: dict[str, str]) -> Retrain:
    """Runs `burnish retrain --once`, or another command, in a project."""

    def run(project: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pipeline", *(arguments or ("retrain", "--once"))]
        return subprocess.run(
            command, cwd=project, env=settings | more, capture_output=True, text=True, check=False, timeout=600
        )

    return run


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory, retrain: Retrain, settings: dict[str, str]) -> Path:
    """A project whose commit is the first champion. Do not change it: copy it (`copy_of`)."""
    project = make_toy(tmp_path_factory.mktemp("served") / "project", ROOT)
    subprocess.run([sys.executable, "-m", "dvc", "repro", "--quiet"], cwd=project, env=settings, check=True)
    git(project, "add", "dvc.lock", "data/metrics")
    git(project, "commit", "--quiet", "-m", "run")
    done = retrain(project)
    assert done.returncode == 0, done.stdout + done.stderr
    return project


@pytest.fixture
def project(served: Path, tmp_path: Path) -> Path:
    return copy_of(served, tmp_path / "project")


def copy_of(served: Path, folder: Path) -> Path:
    """A copy with a worktree of its own: git stores absolute paths of worktrees, so the copy makes its own."""
    shutil.copytree(
        served, folder, symlinks=True, ignore=lambda where, _: ["worktree"] if where.endswith("retrain") else []
    )
    git(folder, "worktree", "prune")
    return folder


def drop(project: Path, count: int, level: float = 100, seed: int = 5000, kind: str = "normal") -> list[Path]:
    """New images in the inbox."""
    folder = project / "data/inbox" / kind
    return [picture(folder / f"new-{seed + number}.png", level, seed + number) for number in range(count)]
