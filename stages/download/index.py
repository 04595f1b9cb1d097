"""An index of facts about files, so that an unchanged file is neither read nor decoded again.

One SQLite table. It is a cache: if it is absent, damaged or in use by another run, it costs time and never changes a
result. Each row has a checksum, since SQLite has none of its own.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import zlib
from collections.abc import Sequence
from pathlib import Path

from stages.download.examine import State

COMMIT_EVERY = 256
"""Rows that a kill may lose."""
_NOT_DAMAGED = (
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
)
"""Errors that do not mean a damaged file: this run goes on without it. After any other error the file is made anew."""
_CREATE = """CREATE TABLE IF NOT EXISTS known
(paths TEXT PRIMARY KEY, key TEXT, states TEXT, facts TEXT, blob BLOB, checksum INT) WITHOUT ROWID"""


class StatIndex:
    """Facts by files, their states, and a key of all else that determines the facts. For one thread."""

    def __init__(self, path: Path | None) -> None:
        """`path` None: remembers nothing beyond this object."""
        self.hits = self.misses = 0
        self._path, self._pending = path, 0
        self._open()

    def _open(self) -> None:
        try:
            self._database = _connect(self._path)
        except (sqlite3.Error, OSError) as fault:
            self._start_over(fault)

    def _start_over(self, fault: Exception) -> None:
        """Go on with an empty file; in memory if the file is not to blame or cannot be made."""
        if hasattr(self, "_database"):
            with contextlib.suppress(sqlite3.Error):
                self._database.close()
        path = self._path
        self._path = None  # at most one new start per run
        if (
            path is not None
            and not isinstance(fault, OSError)
            and getattr(fault, "sqlite_errorcode", 0) & 255 not in _NOT_DAMAGED
        ):
            with contextlib.suppress(sqlite3.Error, OSError):
                for name in (path.name, f"{path.name}-journal"):
                    path.with_name(name).unlink(missing_ok=True)
                self._database = _connect(path)
                return
        self._database = _connect(None)

    def get(self, paths: Sequence[Path], states: Sequence[State], key: str) -> tuple[list, bytes] | None:
        """Facts (JSON values) and bytes that were put for these files in these states under this key; None if there are
        none."""
        name = _name(paths)
        try:
            row = self._database.execute("SELECT * FROM known WHERE paths = ?", (name,)).fetchone()
        except sqlite3.Error as fault:
            self._start_over(fault)
            row = None
        if row is None or row[1] != key or row[2] != json.dumps(states) or row[5] != _checksum(*row[:5]):
            self.misses += 1
            return None
        self.hits += 1
        return json.loads(row[3]), row[4]

    def put(self, paths: Sequence[Path], states: Sequence[State], key: str, facts: Sequence, blob: bytes = b"") -> None:
        """Remember facts."""
        row = (_name(paths), key, json.dumps(states), json.dumps(facts), blob)
        try:
            self._database.execute("INSERT OR REPLACE INTO known VALUES (?, ?, ?, ?, ?, ?)", (*row, _checksum(*row)))
            self._pending += 1
            if self._pending >= COMMIT_EVERY:
                self._database.commit()
                self._pending = 0
        except sqlite3.Error as fault:
            self._start_over(fault)

    def close(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._database.commit()
        with contextlib.suppress(sqlite3.Error):
            self._database.close()


def _connect(path: Path | None) -> sqlite3.Connection:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(path or ":memory:", timeout=1)
    try:
        database.execute(
            "PRAGMA synchronous = OFF"
        )  # a kill cannot hurt it; after a power cut it may have to be rebuilt
        database.execute(_CREATE)
        database.execute("SELECT paths, key, states, facts, blob, checksum FROM known LIMIT 1").fetchone()
    except sqlite3.Error:
        database.close()
        raise
    return database


def _name(paths: Sequence[Path]) -> str:
    return "\n".join(str(path.absolute()) for path in paths)


def _checksum(*row: object) -> int:
    return zlib.crc32(b"\0".join(value if isinstance(value, bytes) else str(value).encode() for value in row))
