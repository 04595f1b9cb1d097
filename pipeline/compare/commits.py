"""Commits and the files in them, as git knows them. The checkout is only read."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from pipeline.project.git import git_problem, run_git
from stages.types import UserError


def resolve_commit(root: Path, revision: str) -> str:
    """The full hash of the commit that a revision names.

    Raises:
        UserError: git gives no commit of `root` (`git_problem`), or the revision is not in it.
    """
    done = run_git(root, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    if done.returncode == 0:
        return done.stdout.decode().strip()
    if problem := git_problem(root):
        raise UserError(f"no revision {revision!r}: {problem}")
    is_shallow = run_git(root, "rev-parse", "--is-shallow-repository")
    if is_shallow.stdout.strip() == b"true":
        raise UserError(
            f"revision {revision!r} is not in this shallow clone: run `git fetch --unshallow` (on GitHub Actions: "
            "`fetch-depth: 0`), and for another branch `git fetch origin BRANCH`"
        )
    raise UserError(
        f"no revision {revision!r} in git: `git log --oneline --all` lists commits, `git branch -a` branches"
    )


def head_commit(root: Path) -> str | None:
    """The full hash of HEAD; None outside git and before the first commit."""
    done = run_git(root, "rev-parse", "--verify", "--quiet", "HEAD")
    return done.stdout.decode().strip() if done.returncode == 0 else None


def changed_files(root: Path) -> list[str]:
    """Names of the tracked files below `root` that differ from HEAD, sorted."""
    status = run_git(root, "status", "--porcelain", "--untracked-files=no", "-z", "--", ".")
    entries, names = iter(status.stdout.decode(errors="replace").split("\0")), []
    for entry in entries:
        if entry:
            names.append(entry[3:])
            if entry[0] in "RC":
                next(entries)  # the name before a rename or copy
    return sorted(names)


def read_file(root: Path, commit: str, path: PurePosixPath) -> bytes | None:
    """A file as it is in a commit, `path` relative to `root`; None if the commit does not have it."""
    done = run_git(root, "cat-file", "blob", f"{commit}:./{path}")
    return done.stdout if done.returncode == 0 else None
