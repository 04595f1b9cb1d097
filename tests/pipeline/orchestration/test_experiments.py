"""DVC's experiments outside the workspace, with one's own images: what pipeline/README.md says of them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import change_params, make_project

pytestmark = pytest.mark.long


def command(
    project: Path, environment: dict[str, str], *arguments: str, code: int = 0
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(arguments, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def commit(project: Path, environment: dict[str, str]) -> None:
    command(project, environment, "git", "add", ".")
    who = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    command(project, environment, "git", *who, "commit", "--quiet", "-m", "images")


@pytest.fixture
def parts(tmp_path: Path, environment: dict[str, str]) -> Path:
    """The images in a folder that DVC tracks."""
    project = make_project(tmp_path / "project")
    shutil.move(project / "data/own", project / "data/parts")
    change_params(project, {"data": {"folder": "data/parts"}})
    command(project, environment, "dvc", "add", "data/parts")
    commit(project, environment)
    assert command(project, environment, "git", "ls-files", "data").stdout.split() == ["data/parts.dvc"]
    return project


def test_in_a_folder_of_its_own(parts: Path, environment: dict[str, str]) -> None:
    done = command(parts, environment, "dvc", "exp", "run", "--temp", "-S", "data.fold=1", "download")
    assert "download: tile train normal: 3 images" in done.stdout
    assert "data.fold=1" not in (parts / "params.yaml").read_text() and not (parts / "data/raw").exists()


def test_queued(parts: Path, environment: dict[str, str]) -> None:
    command(parts, environment, "dvc", "exp", "run", "--queue", "--name", "third", "-S", "data.fold=3", "download")
    command(parts, environment, "dvc", "exp", "run", "--run-all")
    assert "Success" in command(parts, environment, "dvc", "queue", "status").stdout
    assert "third" in command(parts, environment, "dvc", "exp", "list", "--name-only").stdout


def test_images_that_git_ignores_are_copied_or_missed_with_advice(project: Path, environment: dict[str, str]) -> None:
    (project / "data/own/README.md").write_text("in git, as in the repository")
    commit(project, environment)
    run = ("dvc", "exp", "run", "--temp", "-S", "data.fold=1")
    missed = command(project, environment, *run, "download", code=255)
    assert "no good images of category" in missed.stderr
    assert "has only what git or DVC tracks" in missed.stderr and "Experiments" in missed.stderr
    folders = [word for name in ("normal", "defect", "masks") for word in ("-C", f"data/own/{name}")]
    done = command(project, environment, *run, *folders, "download")
    assert "download: tile train normal: 3 images" in done.stdout
