"""A chunk function that notes what it computes, and helpers to run it on any executor."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from pipeline.compute.fan_out import fan_out
from pipeline.project.params import ComputeConfig
from stages.item_cache import Item, ItemCache
from stages.types import UserError

LIMIT_S = 60
"""Longest wait for other processes before a test fails."""


@dataclass(frozen=True)
class Squares:
    """number -> {its square, its name}. One byte per computation goes to the file `log`/number, per load to `loads`."""

    log: Path
    dies_at: int = -1
    """The worker kills itself at this number."""
    always: bool = False
    """It does so at each attempt, not only at the first one."""
    fails_at: int = -1
    """The function raises `fault` at this number."""
    fault: type[Exception] = UserError

    @cached_property
    def offset(self) -> int:
        """Stands for heavy state that is loaded once per worker."""
        _note(self.log / "loads")
        return 7

    def __call__(self, payloads: Sequence[int]) -> Iterator[Item]:
        for number in payloads:
            if number == self.dies_at and (self.always or not (self.log / "died").exists()):
                _note(self.log / "died")
                os.kill(os.getpid(), signal.SIGKILL)
            if number == self.fails_at:
                raise self.fault(f"image {number} is bad")
            _note(self.log / str(number))
            yield {
                "square": np.full((3, number % 4), number**2 + self.offset, np.float16),
                "name": np.asarray(number),
            }


def _note(file: Path) -> None:
    """Append one byte in one system call, because several processes may do so at once."""
    with file.open("ab") as out:
        out.write(b".")


def notes(file: Path) -> int:
    """How often `_note` was called for this file."""
    return file.stat().st_size if file.exists() else 0


def key(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def run(
    executor: str,
    root: Path | str,
    compute_chunk: Any,
    numbers: Sequence[int],
    chunk_size: int = 3,
    **options: Any,
) -> tuple[list[Item], ItemCache]:
    """The items of all numbers, and the cache at `root` that holds them."""
    cache = ItemCache(str(root))
    compute = ComputeConfig(executor=executor)
    keys = [key(number) for number in numbers]
    items = fan_out(compute, cache, keys, numbers.__getitem__, compute_chunk, chunk_size, **options)
    return list(items), cache


def content(items: Sequence[Item]) -> list[dict[str, tuple[Any, ...]]]:
    """Items in a form that `==` compares byte by byte."""
    return [
        {name: (value.dtype, value.shape, value.tobytes()) for name, value in sorted(item.items())} for item in items
    ]


def local_workers() -> list[Any]:
    """The local worker processes that live now."""
    children = psutil.Process().children(recursive=True)
    return [child for child in children if "popen_loky_posix" in " ".join(child.cmdline())]


def files(folder: Path) -> dict[str, bytes]:
    """Name -> content of all files below a folder."""
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
