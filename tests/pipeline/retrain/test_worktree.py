"""The worktree in which challengers are made."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.retrain.worktree import Worktree
from stages.types import UserError
from tests.pipeline.retrain.conftest import copy_of
from tests.pipeline.retrain.toy import git


@pytest.mark.long
def test_an_error_of_dvc_is_reported_in_its_own_words(served: Path, tmp_path: Path) -> None:
    project = copy_of(served, tmp_path / "project")
    tree = Worktree(project)
    tree.prepare(git(project, "rev-parse", "HEAD"))
    shutil.rmtree(tree.pool)
    with pytest.raises(UserError, match=r"^dvc add in .*worktree: output .* does not exist"):
        tree.track_pool()
