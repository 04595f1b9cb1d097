"""A lock that one process holds at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def process_lock(path: Path, when_held: Callable[[str], Exception]) -> Iterator[None]:
    """Hold a lock file, which then contains the process id of its holder.

    The operating system releases the lock when the process ends, even by kill -9.

    Args:
        path: the lock file; it is made where there is none, and stays.
        when_held: the exception to raise if another process holds the lock, given that process's id as text.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise when_held(file.read().strip() or "unknown") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
