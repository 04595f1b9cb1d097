"""Why git gives no commit: each reason with its remedy, wherever a person asks for one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.bundle.provenance import provenance
from pipeline.compare.commits import resolve_commit
from pipeline.doctor.project import check_git
from pipeline.orchestration import run as running
from pipeline.orchestration.results import has_burnish_stages
from pipeline.project.git import git_problem, warn_without_commit
from pipeline.report.run_facts import collect_run_facts
from stages.types import UserError

Spoil = Callable[[Path, pytest.MonkeyPatch], None]


def committed(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dvc.yaml").write_text("stages: {a: {cmd: python -m pipeline stage a}}\n")
    for command in ("init -q", "add .", "-c user.name=t -c user.email=t@example.org commit -q -m start"):
        subprocess.run(["git", *command.split()], cwd=folder, check=True)
    return folder


def other_owner(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # git's own switch for its tests


def no_git(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(folder))


def no_repository(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(folder / ".git")


def no_commit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(folder / ".git")
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)


def damaged(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(folder / ".git/objects")
    (folder / ".git/objects").mkdir()


CASES = {
    "refused": (other_owner, "belongs to another user", "git config --global --add safe.directory {top}"),
    "not installed": (no_git, "git is not installed", "install git"),
    "no repository": (no_repository, "no git repository at or above", "git init && git add . && git commit"),
    "no commit": (no_commit, "has no commit", "git add . && git commit"),
    "failed": (damaged, "git cannot read HEAD", "git fsck"),
}


@pytest.mark.parametrize("kind", CASES)
def test_every_place_says_the_true_reason(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = committed(tmp_path / "project")
    assert git_problem(root) is None
    assert provenance(root)["why_no_commit"] is None
    spoil, what, fix = CASES[kind]
    fix = fix.format(top=root)
    spoil(root, monkeypatch)
    problem = git_problem(root)
    assert problem is not None and (problem.kind, what in problem.what) == (kind, True)
    assert problem.fix.startswith(fix)

    (finding,) = check_git(root)  # doctor
    assert finding.level == "fault"
    assert what in finding.details and finding.fix.startswith(fix)
    with pytest.raises(UserError, match=what):  # diff
        resolve_commit(root, "HEAD")
    origin = provenance(root)  # bundle and export
    assert origin["commit"] is None and what in origin["why_no_commit"]
    json.dumps(origin)
    warn_without_commit(root, "the bundle")
    assert f"burnish: warning: the bundle does not say its commit: {problem}" in capsys.readouterr().err
    assert what in collect_run_facts(root).commit  # report


@pytest.mark.parametrize("kind", ["no repository", "no commit", "not installed"])
def test_a_run_ends_before_its_first_stage(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = committed(tmp_path / "project")
    (root / "params.yaml").write_text("seed: 0\n")
    CASES[kind][0](root, monkeypatch)
    monkeypatch.chdir(root)
    assert has_burnish_stages(root)
    with pytest.raises(UserError, match=CASES[kind][1]):
        running.run(root, [], [], 1)
    assert not (root / ".dvc").exists()


def test_the_remedy_for_another_owner_leads_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, home = committed(tmp_path / "my project"), tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    other_owner(root, monkeypatch)
    problem = git_problem(root)
    assert problem is not None
    subprocess.run(problem.fix, shell=True, check=True, env={**os.environ, "HOME": str(home)})
    assert git_problem(root) is None


@pytest.mark.parametrize("kind", ["no repository", "no commit"])
def test_the_remedy_for_no_commit_leads_out(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = committed(tmp_path / "project")
    CASES[kind][0](root, monkeypatch)
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "t")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "t@example.org")
    problem = git_problem(root)
    assert problem is not None
    subprocess.run(problem.fix, shell=True, check=True, cwd=root, capture_output=True)
    assert git_problem(root) is None
