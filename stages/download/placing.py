"""Puts source files into the data set: cloned where the file system can, else copied.

Never hard-linked: DVC links outputs into its cache, where a change of the source would corrupt them.
"""

from __future__ import annotations

import fcntl
import shutil
from pathlib import Path

from stages.download.examine import State, state_of

FICLONE = 0x40049409
"""ioctl(2) request of Linux: share the blocks of another file until one of the two is written to (btrfs, XFS)."""


def place(source: Path | None, target: Path, state: State, data: bytes | None) -> bool:
    """Put the bytes that `source` had in `state` at `target`.

    Args:
        source: the file; None if no file holds these bytes.
        data: the bytes, if they have been read already.

    Returns:
        False if the source is no longer in that state and `data` is None.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if source is not None and _cloned(source, target) and _unchanged(source, state):
        return True
    if data is not None:
        target.write_bytes(data)
        return True
    if source is None or not _unchanged(source, state):
        return False
    shutil.copyfile(source, target)
    return _unchanged(source, state)


def _cloned(source: Path, target: Path) -> bool:
    try:
        with source.open("rb") as original, target.open("wb") as clone:
            fcntl.ioctl(clone.fileno(), FICLONE, original.fileno())
    except OSError:  # the target is on another file system, or this file system cannot clone
        return False
    return True


def _unchanged(source: Path, state: State) -> bool:
    try:
        return state_of(source) == state
    except OSError:
        return False
