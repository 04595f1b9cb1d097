"""One run of a project at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stages.types import UserError


@contextmanager
def only_run(root: Path) -> Iterator[None]:
    """Hold the project: two runs at once would start the same stages. The lock goes with the process, kill -9 included.

    Raises:
        UserError: another `burnish run` holds it.
    """
    path = lock_path(root)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise UserError(
                f"another `burnish run` (process {file.read().strip() or 'unknown'}) is at work in {root}: "
                "wait for it to end, or end it"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def lock_path(root: Path) -> Path:
    """The file that a running `burnish run` holds locked."""
    return root / ".dvc" / "tmp" / "burnish-run.lock"
