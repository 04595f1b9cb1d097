"""Why git gives no commit: each reason with its remedy, wherever a person asks for one."""

from __future__ import annotations

import json
import os
import re
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
from pipeline.orchestration.stale_data import check_data_not_older
from pipeline.project.git import git, git_problem, warn_without_commit
from pipeline.report.run_facts import collect_run_facts
from pipeline.retrain import tags
from pipeline.retrain.worktree import Worktree
from stages.types import UserError

Spoil = Callable[[Path, pytest.MonkeyPatch], None]


def committed(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dvc.yaml").write_text("stages: {a: {cmd: python -m pipeline stage a}}\n")
    (folder / ".gitignore").write_text("/data/*\n")
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


def headless(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / ".git/HEAD").unlink()


def without_its_main_repository(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(folder / ".git")
    (folder / ".git").write_text(f"gitdir: {folder}/../moved/.git/worktrees/project\n")


CASES: dict[str, tuple[Spoil, str, str, str]] = {
    "other owner": (
        other_owner,
        "refused",
        "belongs to another user",
        "git config --global --add safe.directory {top}",
    ),
    "not installed": (no_git, "not installed", "git is not installed", "install git"),
    "no repository": (
        no_repository,
        "no repository",
        "no git repository at or above",
        "git init && git add . && git commit",
    ),
    "no commit": (no_commit, "no commit", "has no commit", "git add . && git commit"),
    "no objects": (damaged, "failed", "git cannot read HEAD", "restore {top}/.git"),
    "no HEAD": (headless, "failed", "git cannot read {top}/.git", "restore {top}/.git"),
    "moved": (without_its_main_repository, "failed", "git cannot read {top}/.git", "restore {top}/.git"),
}


@pytest.fixture(autouse=True)
def identity(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "t")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "t@example.org")


@pytest.mark.parametrize("case", CASES)
def test_every_place_says_the_true_reason(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = committed(tmp_path / "project")
    assert git_problem(root) is None
    assert provenance(root)["why_no_commit"] is None
    spoil, kind, *texts = CASES[case]
    what, fix = (text.format(top=root) for text in texts)
    spoil(root, monkeypatch)
    problem = git_problem(root)
    assert problem is not None and (problem.kind, what in problem.what) == (kind, True)
    assert problem.fix.startswith(fix)

    (finding,) = check_git(root)  # doctor
    assert finding.level == "fault"
    assert what in finding.details and finding.fix.startswith(fix)
    asks: list[Callable[[], object]] = [lambda: resolve_commit(root, "HEAD"), lambda: git(root, "log")]  # diff, retrain
    if case not in ("no commit", "no objects"):  # git can tell that there is no tag
        asks += [lambda: tags.champion_version(root, "burnish"), lambda: tags.commit_of(root, "burnish", "v0.2.0")]
    for ask in asks if kind != "no commit" else asks[:1]:
        with pytest.raises(UserError, match=re.escape(what)):
            ask()
    origin = provenance(root)  # bundle and export
    assert origin["commit"] is None and what in origin["why_no_commit"]
    json.dumps(origin)
    warn_without_commit(root, "the bundle")
    assert f"burnish: warning: the bundle does not say its commit: {problem}" in capsys.readouterr().err
    assert what in collect_run_facts(root).commit  # report


@pytest.mark.parametrize("case", ["no repository", "no commit", "not installed", "no HEAD"])
def test_a_run_ends_before_its_first_stage(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = committed(tmp_path / "project")
    (root / "params.yaml").write_text("seed: 0\n")
    CASES[case][0](root, monkeypatch)
    monkeypatch.chdir(root)
    assert has_burnish_stages(root)
    with pytest.raises(UserError, match=CASES[case][2].format(top=root)):
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


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("case", ["no repository", "no commit"])
def test_the_remedy_for_no_commit_leads_out(
    case: str, known: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where git does not know who commits, as on a fresh machine."""
    root = committed(tmp_path / "project")
    CASES[case][0](root, monkeypatch)
    if not known:
        for name in ("AUTHOR_NAME", "AUTHOR_EMAIL", "COMMITTER_NAME", "COMMITTER_EMAIL"):
            monkeypatch.delenv(f"GIT_{name}")
        (tmp_path / "home").mkdir()
        (tmp_path / "home/.gitconfig").write_text("[user]\n  useConfigOnly = true\n")  # whatever this machine guesses
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    problem = git_problem(root)
    assert problem is not None
    subprocess.run(problem.fix, shell=True, check=True, cwd=root, capture_output=True)
    assert git_problem(root) is None


def test_images_older_than_the_commit_are_not_passed_over_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = committed(tmp_path / "project")
    check_data_not_older(root, {"data/own.dvc": "0" * 32})
    assert capsys.readouterr().err == ""
    other_owner(root, monkeypatch)
    check_data_not_older(root, {})
    assert capsys.readouterr().err == ""
    check_data_not_older(root, {"data/own.dvc": "0" * 32})
    assert "is not checked: git refuses" in capsys.readouterr().err


@pytest.mark.parametrize("case", ["refused", "damaged", "interrupted"])
def test_the_worktree_of_retraining_keeps_what_took_time(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its checkpoints, whether git refuses it, it is damaged, or a kill came while it was made anew."""
    root = committed(tmp_path / "project")
    tree = Worktree(root)
    monkeypatch.setattr(Worktree, "_share_caches", lambda self: None)
    monkeypatch.setattr("pipeline.retrain.worktree.load_params", stop)
    with pytest.raises(Stopped):
        tree.prepare("HEAD")
    checkpoint = tree.folder / "data/cache/checkpoints/ear.ckpt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_text("an hour")
    if case == "refused":
        subprocess.run(["git", "config", "--file", str(tmp_path / "c"), "safe.directory", str(root)], check=True)
        monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "c"))
        other_owner(root, monkeypatch)
        with pytest.raises(UserError, match=f"safe.directory {tree.folder}"):
            tree.prepare("HEAD")
    else:
        (root / ".git/worktrees/worktree/HEAD").write_text("nonsense")
        if case == "interrupted":
            with monkeypatch.context() as patch, pytest.raises(Stopped):
                patch.setattr("pipeline.retrain.worktree.git", stop)
                tree.prepare("HEAD")
            assert not tree.folder.exists()
        with pytest.raises(Stopped):
            tree.prepare("HEAD")
    assert checkpoint.read_text() == "an hour"


class Stopped(BaseException):
    """Stands for kill -9."""


def stop(*_: object) -> None:
    raise Stopped
