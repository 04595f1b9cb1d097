"""Makes the next thing while the one before is used."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


def prefetch(source: Iterator[T]) -> Iterator[T]:
    """The same in the same order, each made in a thread while the one before is used: at most one lies ready."""
    end = object()
    with ThreadPoolExecutor(1) as thread:
        coming: Future[Any] = thread.submit(next, source, end)
        while (made := coming.result()) is not end:
            coming = thread.submit(next, source, end)
            yield made
