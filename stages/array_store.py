"""Outputs of a stage as sharded Zarr: one row per image, in manifest order; the bytes depend on the rows alone.

A store is written under a temporary name and renamed when complete, so a reader never sees half of it. A chunk holds
one row, a shard about 64 MB of rows, because a folder with thousands of chunk files is slow to hash and to check out.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BytesCodec, ZstdCodec

SHARD_BYTES = 64 * 2**20
MERGE_GAP = 8
"""Rows that are at most this far apart are read in one request."""


class RowWriter:
    """Takes rows one by one; the store appears under `path` when the block ends without an error and with all rows.

    Raises:
        ValueError: a row differs from the first row in shape or dtype, or the number of rows is not `count` (at least
            1).
    """

    def __init__(self, path: Path, count: int, attributes: Mapping[str, Any] | None = None) -> None:
        self._path, self._count, self._attributes = path, count, dict(attributes or {})
        self._temporary = path.with_name(f".{path.name}.part")
        self._array: zarr.Array | None = None
        self._buffer: list[NDArray[Any]] = []
        self._written = 0

    def __enter__(self) -> Self:
        shutil.rmtree(self._temporary, ignore_errors=True)
        self._temporary.parent.mkdir(parents=True, exist_ok=True)
        return self

    def append(self, row: NDArray[Any]) -> None:
        value = np.asarray(row)
        if self._array is None:
            self._array = self._create(value)
        elif value.shape != self._array.shape[1:] or value.dtype != self._array.dtype:
            raise ValueError(
                f"row {self._written + len(self._buffer)} is {value.dtype}{value.shape}, "
                f"the first {self._array.dtype}{self._array.shape[1:]}"
            )
        self._buffer.append(value)
        if len(self._buffer) == self._array.shards[0]:  # type: ignore[index]
            self._flush()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._flush()
                if self._written != self._count or self._array is None:
                    raise ValueError(f"{self._written} rows were appended, not {self._count} as announced")
                shutil.rmtree(self._path, ignore_errors=True)
                self._temporary.rename(self._path)
        finally:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def _create(self, first: NDArray[Any]) -> zarr.Array:
        rows_per_shard = max(1, min(self._count, SHARD_BYTES // max(1, first.nbytes)))
        return zarr.create_array(
            store=self._temporary,
            shape=(self._count, *first.shape),
            chunks=(1, *first.shape),
            shards=(rows_per_shard, *first.shape),
            dtype=first.dtype,
            serializer=BytesCodec(endian="little" if first.dtype.itemsize > 1 else None),
            compressors=ZstdCodec(level=1),
            attributes=self._attributes,
        )

    def _flush(self) -> None:
        if self._buffer and self._array is not None:
            stop = self._written + len(self._buffer)
            if stop > self._count:
                raise ValueError(f"{stop} rows were appended, not {self._count} as announced")
            self._array[self._written : stop] = np.stack(self._buffer)
            self._written, self._buffer = stop, []


def write_rows(
    path: Path, rows: Iterable[NDArray[Any]], count: int, attributes: Mapping[str, Any] | None = None
) -> None:
    """Write `count` rows to the Zarr array `path`, as `RowWriter`."""
    with RowWriter(path, count, attributes) as writer:
        for row in rows:
            writer.append(row)


class StoredRows:
    """A written store as `Rows`: `[i]`, `[a:b]` and `[array of indices]` read only those rows."""

    def __init__(self, path: Path) -> None:
        array = zarr.open_array(path, mode="r")
        self._array = array
        self.attributes: dict[str, Any] = dict(array.attrs)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self._array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self._array.dtype)

    def __len__(self) -> int:
        return int(self._array.shape[0])

    def __getitem__(self, key: Any, /) -> NDArray[Any]:
        if isinstance(key, slice | int | np.integer):
            return np.asarray(self._array[key if isinstance(key, slice) else int(key)])
        index = np.asarray(key, dtype=np.int64)
        if index.size == 0:
            return np.empty((0, *self.shape[1:]), self.dtype)
        order, inverse = np.unique(index, return_inverse=True)
        # Runs of rows are read at once: reading one row costs as much as reading many.
        runs = np.split(order, np.flatnonzero(np.diff(order) > MERGE_GAP) + 1)
        parts = [np.asarray(self._array[run[0] : run[-1] + 1])[run - run[0]] for run in runs]
        return np.concatenate(parts)[inverse]
