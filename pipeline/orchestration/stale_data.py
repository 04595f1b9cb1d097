"""Data that DVC tracks by a pointer in git (`data/own.dvc`): are they older than the commit?

A run takes whatever lies there for what is meant, and makes the pointer say so. After a merge that brought a newer
pointer and no `dvc checkout`, that would undo the merge.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline.project.git import asks
from stages.types import UserError

MOST = 200
"""Commits of a pointer's history that are looked at."""


def check_data_not_older(root: Path, changed: Mapping[str, str]) -> None:
    """Refuse data that an earlier commit of their pointer had.

    Args:
        root: the project's root.
        changed: by pointer, DVC's digest of what lies in its place (`StageGraph.changed_data`).

    Raises:
        UserError: an earlier commit of this branch has just these data.
    """
    for pointer, digest in changed.items():
        commits = (asks(root, "log", f"--max-count={MOST}", "--format=%h", "HEAD", "--", pointer) or "").split()
        for commit in commits[1:]:  # the first is what the pointer says now
            if f"md5: {digest}\n" in (asks(root, "show", f"{commit}:./{pointer}") or "") + "\n":
                place = pointer.removesuffix(".dvc")
                raise UserError(
                    f"{place} still holds the images of commit {commit}, not those of {pointer}: "
                    f"`dvc checkout {pointer}` brings them; to go back to the old ones, `dvc add {place}`"
                )
