"""The array store: deterministic bytes, whole or not at all, rows by any index."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages import array_store
from stages.array_store import RowWriter, StoredRows, write_rows
from stages.types import Subset


def digest(folder: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            total.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return total.hexdigest()


@pytest.fixture
def rows() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(23, 3, 4)).astype(np.float16)


def test_same_rows_same_bytes(tmp_path: Path, rows: np.ndarray) -> None:
    write_rows(tmp_path / "a.zarr", rows, 23)
    write_rows(tmp_path / "b.zarr", (row for row in rows), 23)
    assert digest(tmp_path / "a.zarr") == digest(tmp_path / "b.zarr")


def test_few_files(tmp_path: Path, rows: np.ndarray) -> None:
    write_rows(tmp_path / "a.zarr", rows, 23)
    assert len([path for path in (tmp_path / "a.zarr").rglob("*") if path.is_file()]) == 2


@given(data=st.data(), per_shard=st.integers(1, 30))
@settings(max_examples=30, deadline=None)
def test_any_index_equals_numpy(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, per_shard: int) -> None:
    values = np.arange(17 * 2, dtype=np.int64).reshape(17, 2)
    path = tmp_path_factory.mktemp("store") / "a.zarr"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(array_store, "SHARD_BYTES", per_shard * values[0].nbytes)
        write_rows(path, values, 17)
    stored = StoredRows(path)
    index = np.asarray(data.draw(st.lists(st.integers(0, 16), max_size=25)), dtype=np.int64)
    np.testing.assert_array_equal(stored[index], values[index])
    start, stop = sorted(data.draw(st.tuples(st.integers(0, 17), st.integers(0, 17))))
    np.testing.assert_array_equal(stored[start:stop], values[start:stop])
    np.testing.assert_array_equal(stored[16], values[16])
    subset = Subset(stored, np.asarray([5, 3, 3]))
    np.testing.assert_array_equal(subset[:], values[[5, 3, 3]])
    np.testing.assert_array_equal(subset[1], values[3])


@pytest.mark.parametrize("count", [22, 24])
def test_a_wrong_count_leaves_no_store(tmp_path: Path, rows: np.ndarray, count: int) -> None:
    with pytest.raises(ValueError, match="announced"):
        write_rows(tmp_path / "a.zarr", rows, count)
    assert list(tmp_path.iterdir()) == []


def test_an_error_keeps_the_old_store(tmp_path: Path, rows: np.ndarray) -> None:
    path = tmp_path / "a.zarr"
    write_rows(path, rows, 23)
    before = digest(path)
    with pytest.raises(RuntimeError), RowWriter(path, 23) as writer:
        writer.append(rows[0] + 1)
        raise RuntimeError
    assert digest(path) == before
    assert [child.name for child in tmp_path.iterdir()] == ["a.zarr"]


def test_rows_must_agree(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"row 1 is float64\(3,\), the first float64\(2,\)"):
        write_rows(tmp_path / "a.zarr", [np.zeros(2), np.zeros(3)], 2)
    with pytest.raises(ValueError, match="float32"):
        write_rows(tmp_path / "a.zarr", [np.zeros(2), np.zeros(2, np.float32)], 2)
