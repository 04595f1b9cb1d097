"""The lock that allows one `burnish run` of a project at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stages.types import UserError


@contextmanager
def exclusive_run(root: Path) -> Iterator[None]:
    """Hold the lock of the project, because two runs at once would start the same stages.

    The operating system releases the lock when the process ends, even by kill -9.

    Raises:
        UserError: another `burnish run` holds the lock.
    """
    path = lock_path(root)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise UserError(
                f"another `burnish run` (process {file.read().strip() or 'unknown'}) is running in {root}: "
                "wait until it ends, or end it"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def lock_path(root: Path) -> Path:
    """The file that `burnish run` locks. It holds the process id of the latest run."""
    return root / ".dvc" / "tmp" / "burnish-run.lock"
