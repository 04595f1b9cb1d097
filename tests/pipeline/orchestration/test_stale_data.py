"""Images that are older than the pointer of the commit are an error, because a run would undo the merge."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.orchestration.graph import read_graph
from pipeline.orchestration.stale_data import check_data_not_older
from stages.types import UserError
from tests.pipeline import toy_project as toy
from tests.pipeline.retrain.toy import git

STAGES = "stages:\n  count:\n    cmd: ls data/own > count.txt\n    deps: [data/own]\n    outs: [count.txt]\n"


@pytest.fixture
def merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of images in two commits. The second is checked out, but the folder holds the images of the first."""
    git(tmp_path, "init", "--quiet")
    toy.dvc(tmp_path, "init", "--quiet")
    (tmp_path / "dvc.yaml").write_text(STAGES)
    pool = tmp_path / "data/own"
    pool.mkdir(parents=True)
    for name in ("a", "b"):
        (pool / name).write_text(name)
        toy.dvc(tmp_path, "add", "--quiet", "data/own")
        git(tmp_path, "add", ".")
        git(tmp_path, "-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "-m", name)
    (pool / "b").unlink()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _check(root: Path) -> None:
    check_data_not_older(root, read_graph(root).changed_data)


def test_images_of_an_earlier_commit_are_an_error_until_dvc_checkout(merged: Path) -> None:
    first = git(merged, "rev-parse", "--short", "HEAD~1")
    with pytest.raises(
        UserError, match=rf"data/own still holds the images of commit {first}.*dvc checkout data/own\.dvc"
    ):
        _check(merged)
    toy.dvc(merged, "checkout", "--quiet", "data/own.dvc")
    _check(merged)


def test_old_images_after_dvc_add_and_new_images_are_accepted(merged: Path) -> None:
    toy.dvc(merged, "add", "--quiet", "data/own")  # the user wants the old images
    _check(merged)
    (merged / "data/own/c").write_text("c")
    graph = read_graph(merged)
    assert set(graph.changed_data) == {"data/own.dvc"}
    _check(merged)


def test_the_command_fails_in_one_line_and_leaves_the_pointer_unchanged(merged: Path) -> None:
    pointer = (merged / "data/own.dvc").read_text()
    code, _, error = toy.burnish(merged, "run")
    assert code == 1
    assert error.count("\n") == 1
    assert "dvc checkout data/own.dvc" in error
    assert (merged / "data/own.dvc").read_text() == pointer
    assert not (merged / "count.txt").exists()
