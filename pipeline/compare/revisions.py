"""What git knows: commits, and the files in them. Nothing here touches the checkout."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from pipeline.project.git import raw
from stages.types import UserError


def resolve(root: Path, revision: str) -> str:
    """The full name of the commit that a revision means.

    Raises:
        UserError: `root` is in no git repository, or the revision is not in it.
    """
    found = raw(root, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    if found.returncode == 0:
        return found.stdout.decode().strip()
    inside = raw(root, "rev-parse", "--is-shallow-repository")
    if inside.returncode != 0:
        raise UserError(f"{root} is in no git repository, so it has no revision {revision!r}: run `git init`, commit")
    if inside.stdout.strip() == b"true":
        raise UserError(
            f"revision {revision!r} is not in this shallow clone of git: run `git fetch --unshallow` (on GitHub "
            "Actions: `fetch-depth: 0`), and `git fetch origin BRANCH` for a branch of another name"
        )
    if raw(root, "rev-parse", "--verify", "--quiet", "HEAD").returncode != 0:
        raise UserError(f"no revision {revision!r}: nothing is committed in {root} yet")
    raise UserError(
        f"no revision {revision!r} in git: `git log --oneline --all` lists commits, `git branch -a` branches"
    )


def head(root: Path) -> str | None:
    """The commit that the workspace is based on; None outside git and before the first commit."""
    found = raw(root, "rev-parse", "--verify", "--quiet", "HEAD")
    return found.stdout.decode().strip() if found.returncode == 0 else None


def changed_files(root: Path) -> list[str]:
    """Files below `root` that git tracks and that differ from HEAD, by name."""
    status = raw(root, "status", "--porcelain", "--untracked-files=no", "-z", "--", ".")
    entries, names = iter(status.stdout.decode(errors="replace").split("\0")), []
    for entry in entries:
        if entry:
            names.append(entry[3:])
            if entry[0] in "RC":
                next(entries)  # the name before
    return sorted(names)


def read(root: Path, commit: str, path: PurePosixPath) -> bytes | None:
    """A file as it is in a commit, its path from `root`; None if it is not in it."""
    found = raw(root, "cat-file", "blob", f"{commit}:./{path}")
    return found.stdout if found.returncode == 0 else None
