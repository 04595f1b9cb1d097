"""`prefetch`: one element ahead, exceptions at their place, and no thread left."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from pipeline.compute.prefetch import prefetch


def test_at_most_one_element_is_computed_ahead() -> None:
    computed: list[int] = []

    def source() -> Iterator[int]:
        for i in range(6):
            computed.append(i)
            yield i

    for used, i in enumerate(prefetch(source())):
        assert i == used
        assert len(computed) <= used + 2
    assert computed == list(range(6))


def test_an_exception_comes_at_its_place_and_ends_the_threads() -> None:
    threads_before = threading.active_count()

    def source() -> Iterator[int]:
        yield 0
        raise ValueError("one")

    elements = prefetch(i for i in prefetch(source()))
    assert next(elements) == 0
    with pytest.raises(ValueError, match="one"):
        next(elements)
    closed_early = prefetch(iter(range(9)))
    next(closed_early)
    closed_early.close()  # type: ignore[attr-defined]
    assert threading.active_count() == threads_before
