"""The lock that allows one `burnish run` of a project at a time."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from pipeline.project.process_lock import process_lock
from stages.types import UserError


def exclusive_run(root: Path) -> AbstractContextManager[None]:
    """Hold the lock of the project, because two runs at once would start the same stages.

    Raises:
        UserError: another `burnish run` holds the lock.
    """

    def when_held(holder: str) -> UserError:
        return UserError(
            f"another `burnish run` (process {holder}) is running in {root}: wait until it ends, or end it"
        )

    return process_lock(lock_path(root), when_held)


def lock_path(root: Path) -> Path:
    """The file that `burnish run` locks. It holds the process id of the latest run."""
    return root / ".dvc" / "tmp" / "burnish-run.lock"
