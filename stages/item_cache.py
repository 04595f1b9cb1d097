"""The item cache: results of single images, stored under the digest of all that they depend on.

Key = digest(image bytes, weights digest, parameters, code version). Value = a small Zarr group, packed into one zip
file so that it appears in one rename (or, on object storage, in one put): a reader never sees half an item, two writers
of one key do no harm, and a kill loses at most the item being written. The cache may be deleted at any time. It may be
at any fsspec URL. A local cache stays below its size limit by deleting the least recently used items.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import secrets
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import zarr
from numpy.typing import NDArray

Item = Mapping[str, NDArray[Any]]


def item_key(*, image: str, weights: str, parameters: Any, code: str) -> str:
    """sha256 (hex) of all that a result depends on; `parameters` are JSON values."""
    text = json.dumps([image, weights, parameters, code], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass
class Counts:
    """How many items came from the cache, and how many were computed."""

    cached: int = 0
    computed: int = 0


class ItemCache:
    """Items by key below `root`, a folder or an fsspec URL (`s3://bucket/prefix`, `memory://name`)."""

    def __init__(self, root: str, max_bytes: int | None = None) -> None:
        self._files, self._root = fsspec.core.url_to_fs(root, auto_mkdir=True)
        self._local = "file" in np.atleast_1d(self._files.protocol)
        self._max_bytes = max_bytes
        self.counts = Counts()

    def _path(self, key: str) -> str:
        return f"{self._root}/{key[:2]}/{key}.zarr.zip"

    def has(self, key: str) -> bool:
        """Whether the item exists. It is not read, so it may be damaged."""
        return bool(self._files.exists(self._path(key)))

    def create(self) -> None:
        """Make the folder, so that `reachable` is true wherever it is shared."""
        self._files.makedirs(self._root, exist_ok=True)

    def reachable(self) -> bool:
        """Whether this process sees the cache: on another machine a local folder may be missing, a URL is not."""
        return not self._local or bool(self._files.isdir(self._root))

    def get(self, key: str) -> Item | None:
        """The item, or None if it is absent or damaged (a damaged item is computed again and replaced)."""
        path = self._path(key)
        try:
            data = self._files.cat_file(path)
            item = _unpack(data)
        except (FileNotFoundError, zipfile.BadZipFile, EOFError, KeyError, ValueError, RuntimeError):
            return None
        if self._local:
            os.utime(path)
        return item

    def put(self, key: str, item: Item) -> None:
        """Store an item, completely or not at all."""
        path, data = self._path(key), _pack(item)
        if not self._local:
            self._files.pipe_file(path, data)
            return
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(f"{path}.{os.getpid()}-{secrets.token_hex(4)}.part")  # machines may share process numbers
        try:
            temporary.write_bytes(data)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def map(
        self,
        keys: Sequence[str],
        compute: Callable[[Sequence[int]], Iterable[Item]],
        batch: int = 1,
        progress: Callable[[int], None] = lambda done: None,
    ) -> Iterator[Item]:
        """Items of all keys, in order; missing items come from `compute`, `batch` at a time, and are stored.

        Args:
            compute: positions in `keys` -> one item for each, in this order.
            progress: called with the number of items done.
        """
        for start in range(0, len(keys), batch):
            window = range(start, min(start + batch, len(keys)))
            items = {i: self.get(keys[i]) for i in window}
            missing = [i for i in window if items[i] is None]
            if missing:
                for i, item in zip(missing, compute(missing), strict=True):
                    self.put(keys[i], item)
                    items[i] = item
                    self.counts.computed += 1
            self.counts.cached += len(window) - len(missing)
            progress(window.stop)
            for i in window:
                item_or_none = items[i]
                assert item_or_none is not None  # compute yields one item per missing key, or zip() has raised
                yield item_or_none

    def evict(self) -> int:
        """Delete the least recently used items until the limit holds, and leftovers of killed writers; returns bytes
        freed."""
        if not self._local or self._max_bytes is None or not Path(self._root).is_dir():
            return 0
        entries = []
        for path in Path(self._root).glob("*/*"):
            try:
                status = path.stat()
            except FileNotFoundError:  # another run deleted it
                continue
            entries.append((status.st_mtime_ns, status.st_size, path))
        total, freed = sum(size for _, size, _ in entries), 0
        for _, size, path in sorted(entries):
            if total - freed <= self._max_bytes:
                break
            path.unlink(missing_ok=True)
            freed += size
        return freed


def _pack(item: Item) -> bytes:
    buffer = io.BytesIO()
    memory: dict[str, Any] = {}
    group = zarr.create_group(store=memory)
    for name, value in item.items():
        array = np.asarray(value, order="C")
        group.create_array(name, data=array, chunks=array.shape or "auto", compressors=None)
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, value in memory.items():
            archive.writestr(
                zipfile.ZipInfo(name), value.to_bytes()
            )  # without a time: the same item has the same bytes
    return buffer.getvalue()


def _unpack(data: bytes) -> Item:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        memory = {name: zarr.core.buffer.cpu.Buffer.from_bytes(archive.read(name)) for name in archive.namelist()}
    group = zarr.open_group(store=memory, mode="r")
    return {name: np.asarray(array[...]) for name, array in group.arrays()}
