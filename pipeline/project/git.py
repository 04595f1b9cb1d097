"""Runs git commands, and moves commits and branches without changing any checkout."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stages.types import UserError

FALLBACK_NAME, FALLBACK_EMAIL = "burnish", "burnish@localhost"
"""Author of commits and tags if git has no `user.email`."""


@dataclass(frozen=True)
class GitProblem:
    """Why git gives no commit."""

    kind: Literal["not installed", "no repository", "no commit", "refused", "failed"]
    what: str
    """In words, such as `no git repository at or above /line`."""
    fix: str
    """What to do: a command where one helps."""

    def __str__(self) -> str:
        return f"{self.what}: {self.fix}"


def git_problem(folder: Path) -> GitProblem | None:
    """Why git gives no commit of `folder`; None if it does.

    Git refuses a repository that belongs to another user (`safe.directory`): there is a commit then, and nobody may
    say that there is none.
    """
    try:
        repository = run_git(folder, "rev-parse", "--git-dir")
    except UserError as error:
        return GitProblem("not installed", str(error), "install git with the package manager of the system")
    message, top = _first_line(repository.stderr), project_top(folder)
    if "dubious ownership" in message:
        fix = f"git config --global --add safe.directory {shlex.quote(str(top))}"
        return GitProblem("refused", f"git refuses {top}, because it belongs to another user", fix)
    damaged = f"restore {top / '.git'}, for example from another clone"
    if repository.returncode:
        if not (top / ".git").exists():
            fix = f"git init && {_first_commit(folder)}"
            return GitProblem("no repository", f"no git repository at or above {folder}", fix)
        return GitProblem("failed", f"git cannot read {top / '.git'} ({message})", damaged)
    head = run_git(folder, "rev-parse", "--verify", "HEAD^{commit}")
    if head.returncode == 0:
        return None
    if run_git(folder, "rev-parse", "--verify", "--quiet", "HEAD").returncode == 0:  # a name without its object
        return GitProblem("failed", f"git cannot read HEAD in {folder} ({_first_line(head.stderr)})", damaged)
    return GitProblem("no commit", f"the git repository of {folder} has no commit", _first_commit(folder))


def _first_line(stderr: bytes) -> str:
    return (_text(stderr).splitlines() or ["git gave no reason"])[0].removeprefix("fatal: ")


def _first_commit(folder: Path) -> str:
    """The commands that make the first commit, also where git does not know who commits."""
    commands = ["git add .", "git commit -m start"]
    if run_git(folder, "var", "GIT_AUTHOR_IDENT").returncode:
        commands = ["git config --global user.name NAME", "git config --global user.email ADDRESS", *commands]
    return " && ".join(commands)


def project_top(folder: Path) -> Path:
    """The nearest folder at or above `folder` that holds `.git`; `folder` itself if there is none."""
    folder = folder.resolve()
    return next((place for place in (folder, *folder.parents) if (place / ".git").exists()), folder)


def warn_without_commit(folder: Path, what: str) -> None:
    """Print a warning if the commit of what was just made is not known.

    Args:
        what: what was made, such as `the bundle`.
    """
    if problem := git_problem(folder):
        print(f"burnish: warning: {what} does not say its commit: {problem}", file=sys.stderr)


def git(folder: Path, *arguments: str) -> str:
    """The standard output of a git command, without the last line break.

    Raises:
        UserError: git reads no repository there (`git_problem`), or the command failed. The message ends with git's
            last line.
    """
    process = run_git(folder, *arguments)
    if process.returncode:
        if (problem := git_problem(folder)) and problem.kind != "no commit":
            raise UserError(str(problem))
        output = _text(process.stderr) or _text(process.stdout) or f"exit code {process.returncode}, without a message"
        raise UserError(f"git {arguments[0]} in {folder}: {output.splitlines()[-1]}")
    return _text(process.stdout)


def git_output_or_none(folder: Path, *arguments: str) -> str | None:
    """The same as `git`, but None if the command fails or git is not installed."""
    try:
        process = run_git(folder, *arguments)
    except UserError:
        return None
    return _text(process.stdout) if process.returncode == 0 else None


def run_git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run a git command in `folder`, whatever its exit code.

    Raises:
        UserError: git is not installed.
    """
    try:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, check=False, env={**os.environ, "LC_ALL": "C"}
        )
    except FileNotFoundError as fault:
        raise UserError("git is not installed, or not in PATH") from fault


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace").rstrip("\n")


def is_ancestor(folder: Path, old: str, new: str) -> bool:
    return git_output_or_none(folder, "merge-base", "--is-ancestor", old, new) is not None


def commit(folder: Path, message: str) -> str:
    """Commit the staged files without running hooks, and return the new commit.

    The author is git's `user.email`, or `FALLBACK_NAME` if git has none.
    """
    author_options = []
    if not git_output_or_none(folder, "config", "user.email"):
        author_options = ["-c", f"user.name={FALLBACK_NAME}", "-c", f"user.email={FALLBACK_EMAIL}"]
    git(folder, *author_options, "commit", "--quiet", "--no-verify", "--allow-empty", "-m", message)
    return git(folder, "rev-parse", "HEAD")


def author(folder: Path) -> tuple[str, str] | tuple[None, None]:
    """Name and address with which GTO signs tags. (None, None): git's own `user.name` and `user.email`."""
    if git_output_or_none(folder, "config", "user.email"):
        return None, None
    return FALLBACK_NAME, FALLBACK_EMAIL


def advance_branch(folder: Path, branch: str, new: str) -> str:
    """Point a branch at the commit `new`, and return the name of the branch.

    The branch is `branch` if `new` follows its tip and no worktree has checked it out, else the first such branch of
    `branch-2`, `branch-3`, ... A branch that somebody has checked out must not move, because git would then show the
    files of that checkout as changed.
    """
    checked_out = {
        line for line in git(folder, "worktree", "list", "--porcelain").splitlines() if line.startswith("branch ")
    }
    number = 1
    while True:
        name = branch if number == 1 else f"{branch}-{number}"
        tip = git_output_or_none(folder, "rev-parse", "--verify", "--quiet", f"refs/heads/{name}")
        if tip == new:
            return name
        if f"branch refs/heads/{name}" not in checked_out and (tip is None or is_ancestor(folder, tip, new)):
            git(folder, "update-ref", f"refs/heads/{name}", new)
            return name
        number += 1
