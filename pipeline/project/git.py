"""Git: what it says, and commits, branches and tags that move without anybody's checkout."""

from __future__ import annotations

import subprocess
from pathlib import Path

from stages.types import UserError

NAME, EMAIL = "burnish", "burnish@localhost"
"""Who commits where Git knows nobody."""


def git(folder: Path, *arguments: str) -> str:
    """What a git command prints, without the last line break.

    Raises:
        UserError: it failed; git's own last words. Or there is no git.
    """
    done = raw(folder, *arguments)
    if done.returncode:
        words = (
            _text(done.stderr) or _text(done.stdout) or f"exit code {done.returncode}, and it said nothing"
        ).splitlines()[-1]
        raise UserError(f"git {arguments[0]} in {folder}: {words}")
    return _text(done.stdout)


def asks(folder: Path, *arguments: str) -> str | None:
    """The same; None where it fails, or where there is no git: for questions that git answers so."""
    try:
        done = raw(folder, *arguments)
    except UserError:
        return None
    return _text(done.stdout) if done.returncode == 0 else None


def raw(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """A git command as it ended.

    Raises:
        UserError: there is no git.
    """
    try:
        return subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, check=False)
    except FileNotFoundError as fault:
        raise UserError("git is not installed, or not in PATH") from fault


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace").rstrip("\n")


def is_ancestor(folder: Path, old: str, new: str) -> bool:
    return asks(folder, "merge-base", "--is-ancestor", old, new) is not None


def commit(folder: Path, message: str) -> str:
    """Commit what is staged, with no hooks, as whoever git knows, and give back the new commit."""
    who = [] if asks(folder, "config", "user.email") else ["-c", f"user.name={NAME}", "-c", f"user.email={EMAIL}"]
    git(folder, *who, "commit", "--quiet", "--no-verify", "--allow-empty", "-m", message)
    return git(folder, "rev-parse", "HEAD")


def author(folder: Path) -> tuple[str, str] | tuple[None, None]:
    """Name and address that GTO signs tags with; None: whom git knows."""
    return (None, None) if asks(folder, "config", "user.email") else (NAME, EMAIL)


def advance(folder: Path, branch: str, new: str) -> str:
    """Point `branch` at the commit `new`, or the first of `branch-2`, `branch-3` ... that it follows; its name.

    A branch that somebody has checked out stays where it is: under that checkout, it would look like changed files.
    """
    taken = {line for line in git(folder, "worktree", "list", "--porcelain").splitlines() if line.startswith("branch ")}
    number = 1
    while True:
        name = branch if number == 1 else f"{branch}-{number}"
        tip = asks(folder, "rev-parse", "--verify", "--quiet", f"refs/heads/{name}")
        if tip == new:
            return name
        if f"branch refs/heads/{name}" not in taken and (tip is None or is_ancestor(folder, tip, new)):
            git(folder, "update-ref", f"refs/heads/{name}", new)
            return name
        number += 1
