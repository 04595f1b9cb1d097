"""Reads the logs of processes: their last bytes, as lines without control characters."""

from __future__ import annotations

import os
import re
from pathlib import Path

TAIL_BYTES = 65_536
"""Only this many bytes at the end of a log are read."""

_CONTROL_CHARACTERS = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"
)


def read_tail(log: Path, start: int = 0) -> str:
    """The last `TAIL_BYTES` of a log, without anything before byte `start`."""
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(start, size - TAIL_BYTES))
        return file.read().decode("utf-8", "replace")


def text_lines(text: str) -> list[str]:
    """The lines that are not blank, without control characters.

    A carriage return ends a line too, because progress bars use it.
    """
    cleaned = (_CONTROL_CHARACTERS.sub("", line).rstrip() for line in re.split(r"[\r\n]+", text))
    return [line for line in cleaned if line.strip()]


def last_line(log: Path) -> str:
    """The last line of a log that is not blank, or `no output`."""
    lines = text_lines(read_tail(log))
    return lines[-1].strip() if lines else "no output"
