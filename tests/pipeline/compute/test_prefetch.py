"""The next thing is made while the one before is used."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from pipeline.compute.prefetch import prefetch


def test_at_most_one_lies_ready() -> None:
    made: list[int] = []

    def source() -> Iterator[int]:
        for i in range(6):
            made.append(i)
            yield i

    for used, i in enumerate(prefetch(source())):
        assert i == used
        assert len(made) <= used + 2
    assert made == list(range(6))


def test_a_fault_comes_at_its_place_and_ends_the_threads() -> None:
    before = threading.active_count()

    def source() -> Iterator[int]:
        yield 0
        raise ValueError("one")

    steps = prefetch(i for i in prefetch(source()))
    assert next(steps) == 0
    with pytest.raises(ValueError, match="one"):
        next(steps)
    stopped = prefetch(iter(range(9)))
    next(stopped)
    stopped.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
