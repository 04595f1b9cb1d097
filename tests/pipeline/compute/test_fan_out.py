"""Local processes and a Dask cluster: the same bytes and the same order as in this process, also after a death."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from pipeline.compute.executors import Job
from pipeline.compute.fan_out import fan_out
from pipeline.project.params import ComputeConfig
from stages.item_cache import Item, ItemCache
from stages.types import UserError
from tests.pipeline.compute.toy_items import LIMIT_S, Squares, content, files, key, local_workers, notes, run

NUMBERS = [*range(20), 3, 4, *range(20, 40)]
"""Two numbers are there twice."""


def test_every_executor_gives_the_same_items_and_the_same_cache(executor: str, tmp_path: Path, log: Path) -> None:
    (tmp_path / "serial").mkdir()
    expected, serial_cache = run("serial", tmp_path / "one", Squares(tmp_path / "serial"), NUMBERS)
    assert [int(item["name"]) for item in expected] == NUMBERS
    assert (serial_cache.counts.cached, serial_cache.counts.computed) == (2, 40)

    run("serial", tmp_path / "two", Squares(log), [2, 5, 30])
    done: list[int] = []
    items, cache = run(executor, tmp_path / "two", Squares(log), NUMBERS, progress=done.append)
    assert content(items) == content(expected)
    assert done == list(range(1, 43))
    assert (cache.counts.cached, cache.counts.computed) == (5, 37)
    assert files(tmp_path / "two") == files(tmp_path / "one")
    assert {notes(log / str(number)) for number in range(40)} == {1}
    assert 2 <= notes(log / "loads") <= 3  # in this process, and once in each worker that got a chunk

    items, cache = run(executor, tmp_path / "two", Squares(log), NUMBERS)
    assert content(items) == content(expected)
    assert (cache.counts.cached, cache.counts.computed) == (42, 0)


@pytest.mark.long
def test_the_chunk_of_a_dead_worker_is_computed_again_without_its_finished_items(
    executor: str, tmp_path: Path, log: Path
) -> None:
    numbers = list(range(24))
    items, cache = run(executor, tmp_path / "cache", Squares(log, dies_at=8), numbers)  # the last one of its chunk
    assert [int(item["name"]) for item in items] == numbers
    assert (log / "died").exists()
    repeated = sum(notes(log / str(number)) - 1 for number in numbers)
    assert 0 <= repeated <= 1  # the other worker may have been ended with the broken pool, while it computed an item
    assert (cache.counts.cached, cache.counts.computed) == (0, 24)


@pytest.mark.long
def test_exceptions_of_the_chunk_function_are_raised(executor: str, tmp_path: Path, log: Path) -> None:
    with pytest.raises(UserError, match=r"^image 9 is bad$"):
        run(executor, tmp_path / "cache", Squares(log, fails_at=9), range(24))
    with pytest.raises(ZeroDivisionError, match="image 10 is bad") as caught:
        run(executor, tmp_path / "other", Squares(log, fails_at=10, fault=ZeroDivisionError), range(24))
    if executor == "processes:2":  # Dask sends tracebacks itself
        assert "in __call__" in str(caught.value.__cause__)
    assert local_workers() == []


@dataclass(frozen=True)
class FirstChunkIsLate:
    """Ends its chunks in the wrong order: the first one waits until another worker has ended a chunk."""

    gate: Path

    def __call__(self, payloads: Sequence[int]) -> Iterator[Item]:
        for number in payloads:
            if number >= len(payloads):
                self.gate.touch()
            elif number == 0:
                limit = time.monotonic() + LIMIT_S
                while not self.gate.exists() and time.monotonic() < limit:
                    threading.Event().wait(0.01)
            yield {"name": np.asarray(number), "late": np.asarray(self.gate.exists())}


def test_items_keep_their_order_and_few_payloads_are_read_ahead(executor: str, tmp_path: Path) -> None:
    read: list[int] = []
    numbers = list(range(60))

    def read_payload(i: int) -> int:
        read.append(i)
        return numbers[i]

    cache, compute = ItemCache(str(tmp_path / "cache")), ComputeConfig(executor=executor)
    keys = [key(number) for number in numbers]
    items = fan_out(compute, cache, keys, read_payload, FirstChunkIsLate(tmp_path / "gate"), 2)
    for i, item in enumerate(items):
        assert (int(item["name"]), bool(item["late"])) == (i, True)
        assert len(read) <= i + 4 * 2 + 2  # two chunks per worker, and the chunk whose items are being yielded
    assert read == numbers


def test_the_main_process_stores_items_of_workers_that_do_not_see_the_cache(
    executor: str, tmp_path: Path, log: Path
) -> None:
    job = Job(ItemCache(str(tmp_path / "absent")), Squares(log))
    assert content(job.run([key(3)], [3])) == content(list(Squares(log)([3])))
    assert not (tmp_path / "absent").exists()
    root = f"memory://{tmp_path.name}"  # each process has its own
    items, cache = run(executor, root, Squares(log), range(24))
    assert content([cache.get(key(number)) or {} for number in range(24)]) == content(items)
    assert cache.counts.computed == 24
