"""Detects images that are older than the commit.

DVC tracks a folder of images (`data/own`) by a pointer file in git (`data/own.dvc`). A run treats the files in the
folder as the latest ones, and updates the pointer. After a merge that brought a newer pointer, and before
`dvc checkout`, the folder still holds the old images, so a run would undo the merge.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from pipeline.project.git import git_output_or_none, git_problem
from stages.types import UserError

MAX_COMMITS = 200
"""Only this many commits of the history of a pointer are searched."""


def check_data_not_older(root: Path, changed_data: Mapping[str, str]) -> None:
    """Raise an error if a folder holds the data of an earlier commit of its pointer.

    Args:
        root: root of the project.
        changed_data: pointer -> DVC's digest of the data that its folder holds now (`StageGraph.changed_data`).

    Raises:
        UserError: an earlier commit of this branch has exactly these data.
    """
    if changed_data and (problem := git_problem(root)):
        print(f"burnish: warning: whether images are older than the commit is not checked: {problem}", file=sys.stderr)
        return
    for pointer, digest in changed_data.items():
        commits = (
            git_output_or_none(root, "log", f"--max-count={MAX_COMMITS}", "--format=%h", "HEAD", "--", pointer) or ""
        ).split()
        for commit in commits[1:]:  # the first commit is that of the present pointer
            if f"md5: {digest}\n" in (git_output_or_none(root, "show", f"{commit}:./{pointer}") or "") + "\n":
                folder = pointer.removesuffix(".dvc")
                raise UserError(
                    f"{folder} still holds the images of commit {commit}, not those of {pointer}: run "
                    f"`dvc checkout {pointer}` to get those; or run `dvc add {folder}` to go back to the old images"
                )
