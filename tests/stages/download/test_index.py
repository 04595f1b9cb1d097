"""The index of unchanged files: used, never trusted if anything differs, and never needed."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from stages.download.index import COMMIT_EVERY, StatIndex

FILE, STATE = Path("/data/a.png"), (10, 20, 30, 40)


def put(index: StatIndex, path: Path = FILE, facts: object = 7, blob: bytes = b"png") -> None:
    index.put((path,), (STATE,), "key", [facts], blob)


def known(path: Path, asked: Path = FILE, state: tuple[int, int, int, int] = STATE, key: str = "key") -> object:
    index = StatIndex(path)
    try:
        return index.get((asked,), (state,), key)
    finally:
        index.close()


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    index = StatIndex(tmp_path / "new" / "index.sqlite")
    put(index)
    index.close()
    return tmp_path / "new" / "index.sqlite"


def test_what_was_put_is_known(filled: Path) -> None:
    assert known(filled) == ([7], b"png")


@pytest.mark.parametrize(
    "other",
    [
        {"asked": Path("/data/b.png")},
        {"key": "other"},
        *({"state": tuple(value + (i == at) for i, value in enumerate(STATE))} for at in range(4)),
    ],
)
def test_anything_else_is_not(filled: Path, other: dict) -> None:
    assert known(filled, **other) is None


def test_counts(filled: Path) -> None:
    index = StatIndex(filled)
    for path in (FILE, Path("/data/b.png"), FILE):
        index.get((path,), (STATE,), "key")
    assert (index.hits, index.misses) == (2, 1)
    index.close()


def test_the_last_facts_count(filled: Path) -> None:
    index = StatIndex(filled)
    put(index, facts=8)
    index.close()
    assert known(filled) == ([8], b"png")


def overwritten(path: Path) -> None:
    path.write_bytes(b"not a database" * 1000)


def shortened(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def other_table(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE known (a, b)")


def not_utf8(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"/data/a.png", b"/data/a\xff\xfeng"))


def other_digit(path: Path) -> None:
    assert b"[7]" in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(b"[7]", b"[9]"))


@pytest.mark.parametrize("damage", [Path.unlink, overwritten, shortened, other_table, not_utf8, other_digit])
def test_a_damaged_index_is_made_anew(filled: Path, damage: Callable[[Path], None]) -> None:
    damage(filled)
    assert known(filled) is None
    index = StatIndex(filled)
    put(index)
    index.close()
    assert known(filled) == ([7], b"png")


def test_damage_that_shows_late(tmp_path: Path) -> None:
    """Damaged pages in the middle: an answer is correct or missing, and the next run gets a usable file."""
    path = tmp_path / "index.sqlite"
    files = [Path(f"/data/{i}.png") for i in range(500)]
    index = StatIndex(path)
    for i, file in enumerate(files):
        put(index, file, i)
    index.close()
    data = bytearray(path.read_bytes())
    data[8192 : len(data) - 8192 : 7] = bytes(len(data[8192 : len(data) - 8192 : 7]))
    path.write_bytes(data)
    for attempt in range(2):
        index = StatIndex(path)
        for i, file in enumerate(files):
            assert index.get((file,), (STATE,), "key") in ([None, ([i], b"png")] if attempt == 0 else [([i], b"png")])
            put(index, file, i)
        index.close()


def test_a_kill_loses_the_last_rows_alone(tmp_path: Path) -> None:
    """Other connections see all committed rows: all but the last few."""
    index = StatIndex(tmp_path / "index.sqlite")
    for i in range(COMMIT_EVERY + 3):
        put(index, Path(f"/data/{i}.png"), i)
    with sqlite3.connect(tmp_path / "index.sqlite") as other:
        assert other.execute("SELECT COUNT(*) FROM known").fetchone() == (COMMIT_EVERY,)
    index.close()


def test_in_use_or_out_of_reach(filled: Path, tmp_path: Path) -> None:
    """Another run writes, or the folder is a file: this run goes on without the index and does not damage it."""
    with sqlite3.connect(filled) as other:
        other.execute("BEGIN EXCLUSIVE")
        index = StatIndex(filled)
        put(index, facts=8)
        assert index.get((FILE,), (STATE,), "key") == ([8], b"png")
        index.close()
        other.rollback()
    assert known(filled) == ([7], b"png")
    (tmp_path / "file").write_text("")
    assert known(tmp_path / "file" / "index.sqlite") is None
