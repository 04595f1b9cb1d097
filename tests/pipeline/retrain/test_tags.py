"""Versions and champions as GTO's tags, and the branches of promotions. Only git is needed, no pipeline."""

from __future__ import annotations

from pathlib import Path

import gto.api
import pytest

from pipeline.project.git import advance_branch, commit, is_ancestor
from pipeline.project.git import git as ask
from pipeline.retrain import tags
from stages.types import UserError
from tests.pipeline.retrain.toy import git


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "--quiet", "--initial-branch", "main")
    git(tmp_path, "config", "user.name", "t")
    git(tmp_path, "config", "user.email", "t@example.org")
    git(tmp_path, "commit", "--quiet", "--allow-empty", "-m", "one")
    return tmp_path


def test_versions_count_up_and_the_last_assignment_counts(repository: Path) -> None:
    assert tags.next_version(repository, "burnish") == "v0.1.0"
    assert tags.champion_version(repository, "burnish") is None
    commits = {}
    for version in ("v0.1.0", "v0.2.0"):
        commits[version] = commit(repository, version)
        for _ in range(2):  # a step that is repeated after a kill
            tags.register_version(repository, "burnish", version, commits[version], "why")
            tags.assign_champion(repository, "burnish", version, "why")
        assert tags.champion_version(repository, "burnish") == version
    assert tags.next_version(repository, "burnish") == "v0.3.0"
    tags.assign_champion(repository, "burnish", "v0.1.0", "back")
    assert tags.champion_version(repository, "burnish") == "v0.1.0"
    assert git(repository, "tag").split() == [
        *(f"burnish#champion#{number}" for number in (1, 2, 3)),
        "burnish@v0.1.0",
        "burnish@v0.2.0",
    ]
    assert tags.commit_of(repository, "burnish", "v0.2.0") == commits["v0.2.0"]
    with pytest.raises(UserError, match=r"no version 'v7\.0\.0' of burnish; there are: v0\.1\.0, v0\.2\.0"):
        tags.commit_of(repository, "burnish", "v7.0.0")
    assert gto.api.show(repository)["burnish"]["stage"] == {"champion": "v0.1.0"}  # as GTO itself reads the tags


def test_ten_comes_after_nine(repository: Path) -> None:
    for number in (9, 10):
        tags.register_version(repository, "burnish", f"v0.{number}.0", commit(repository, str(number)), "why")
    assert tags.next_version(repository, "burnish") == "v0.11.0"
    assert tags.next_version(repository, "other") == "v0.1.0"


def test_a_branch_goes_forward_and_never_loses_a_commit(repository: Path) -> None:
    start = git(repository, "rev-parse", "HEAD")
    ours = commit(repository, "ours")
    git(repository, "checkout", "--quiet", "--detach", start)
    theirs = commit(repository, "theirs")
    assert advance_branch(repository, "retrain/day", ours) == "retrain/day"
    assert advance_branch(repository, "retrain/day", ours) == "retrain/day"
    assert advance_branch(repository, "retrain/day", theirs) == "retrain/day-2"
    assert git(repository, "rev-parse", "retrain/day") == ours
    git(repository, "checkout", "--quiet", "retrain/day")  # as a developer who looks at it
    after = git(repository, "commit-tree", "HEAD^{tree}", "-p", ours, "-m", "after")
    assert advance_branch(repository, "retrain/day", after) == "retrain/day-3"
    assert git(repository, "rev-parse", "HEAD") == ours
    assert advance_branch(repository, "retrain/day", ours) == "retrain/day"
    assert is_ancestor(repository, start, theirs)
    assert not is_ancestor(repository, ours, theirs)
    with pytest.raises(UserError, match="git rev-parse in"):
        ask(repository, "rev-parse", "--verify", "nothing")


def test_a_machine_that_knows_nobody_can_promote(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(repository, "config", "--unset", "user.name")
    git(repository, "config", "--unset", "user.email")
    for name, value in {"HOME": str(repository), "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null"}.items():
        monkeypatch.setenv(name, value)
    made = commit(repository, "by burnish")
    tags.register_version(repository, "burnish", "v0.1.0", made, "why")
    tags.assign_champion(repository, "burnish", "v0.1.0", "why")
    assert git(repository, "show", "--no-patch", "--format=%an", made) == "burnish"
    assert tags.champion_version(repository, "burnish") == "v0.1.0"
