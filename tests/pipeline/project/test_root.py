"""The root of a project, paths of logs, and the environment of commands."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.project.root import command_environment, find_root, log_path
from stages.types import UserError


def test_the_root_is_the_nearest_folder_with_a_dvc_yaml(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no dvc\.yaml in"):
        find_root(tmp_path)
    (tmp_path / "dvc.yaml").write_text("stages: {}")
    (tmp_path / "deep" / "down").mkdir(parents=True)
    assert find_root(tmp_path / "deep" / "down") == tmp_path.resolve()


def test_names_of_logs() -> None:
    assert log_path(Path("p"), "train@mono-ear") == Path("p/data/logs/train@mono-ear.log")
    assert log_path(Path("p"), "sub/dvc.yaml:a {b}*") == Path("p/data/logs/sub_dvc.yaml_a__b__.log")


def test_the_folder_of_this_python_comes_first_in_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/somewhere")
    monkeypatch.setattr("sys.executable", "/venv/bin/python")
    assert command_environment()["PATH"] == os.pathsep.join(["/venv/bin", "/somewhere"])
