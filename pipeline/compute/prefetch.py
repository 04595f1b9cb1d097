"""Computes the next element of an iterator while the caller uses the present one."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


def prefetch(source: Iterator[T]) -> Iterator[T]:
    """The elements of `source` in the same order, each computed in a thread while the caller uses the one before.

    At most one element is computed ahead.
    """
    end = object()
    with ThreadPoolExecutor(1) as thread:
        following: Future[Any] = thread.submit(next, source, end)
        while (element := following.result()) is not end:
            following = thread.submit(next, source, end)
            yield element
