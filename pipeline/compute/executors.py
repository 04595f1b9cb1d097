"""Where chunks of images are computed: local processes, by loky. A Dask cluster: `dask_pool`."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol

import psutil
from loky import ProcessPoolExecutor, cpu_count

from stages.item_cache import Item, ItemCache

Work = Callable[[Sequence[Any]], Iterable[Item]]
"""Payloads of some images -> one item each, in order. An item must not depend on the payloads beside its own."""
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class Answer(Protocol):
    """A chunk's items to come: a `concurrent.futures.Future`, or what does as one."""

    def result(self) -> list[Item]: ...


class Pool(Protocol):
    """Workers that compute chunks; a thin layer over an `Executor`."""

    @property
    def workers(self) -> int: ...

    def submit(self, keys: Sequence[str], payloads: Sequence[Any]) -> Answer:
        """Raises `BrokenExecutor`, here or from the answer, when a worker died."""
        ...

    def restart(self) -> None:
        """New workers in place of broken ones; what was under way is forgotten."""
        ...


@dataclass(frozen=True)
class Job:
    """What all chunks have in common; picklable."""

    cache: ItemCache
    work: Work

    def run(self, keys: Sequence[str], payloads: Sequence[Any]) -> list[Item]:
        """Items of one chunk, in a worker. One that does not see the cache leaves storing to the main process."""
        if not self.cache.reachable():
            return list(self.work(payloads))
        return list(run_chunk(self.cache, keys, payloads, self.work))


def run_chunk(cache: ItemCache, keys: Sequence[str], payloads: Sequence[Any], work: Work) -> Iterator[Item]:
    """Items in order. What the cache has by now is not computed; the rest is stored as soon as it is computed.

    So a chunk that is done again after a worker's death repeats no finished item.
    """
    found = [cache.get(key) for key in keys]
    missing = [payload for payload, item in zip(payloads, found, strict=True) if item is None]
    fresh = iter(work(missing)) if missing else iter(())
    for key, item in zip(keys, found, strict=True):
        if item is None:
            item = next(fresh, None)
            if item is None:
                raise ValueError(f"the work gave fewer than {len(missing)} items for {len(missing)} payloads")
            cache.put(key, item)
        yield item


def cores() -> int:
    """Processor cores that this process may use, by its affinity and its container's quota."""
    return int(cpu_count())


@contextmanager
def local_pool(workers: int, job: Job) -> Iterator[Pool]:
    """Processes on this machine, of one thread each; they end with the block, whatever they do."""
    job.cache.create()
    pool = _LocalPool(workers, job)
    try:
        yield pool
    finally:
        pool.executor.shutdown(wait=True, kill_workers=True)


class _LocalPool:
    """By loky: the standard library's pool cannot end its workers, and may hang when one dies."""

    def __init__(self, workers: int, job: Job) -> None:
        self.workers = workers
        self._job = job
        self.executor = self._open()

    def submit(self, keys: Sequence[str], payloads: Sequence[Any]) -> Future[list[Item]]:
        return self.executor.submit(_run, keys, payloads)

    def restart(self) -> None:
        self.executor.shutdown(wait=True, kill_workers=True)
        self.executor = self._open()

    def _open(self) -> ProcessPoolExecutor:
        job = (self._job, os.getpid())
        return ProcessPoolExecutor(self.workers, timeout=None, env=ONE_THREAD, initializer=_start, initargs=job)


# --- in a worker ---

_job: Job | None = None


def _start(job: Job, parent: int) -> None:
    """Take the job, once; leave Ctrl-C, which reaches the whole group, to the main process; end with that process."""
    global _job
    _job = job
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """A worker holds both ends of the queue that it reads, so it would wait for ever after a kill -9 of the parent."""
    with suppress(psutil.NoSuchProcess):
        psutil.Process(parent).wait()
    os._exit(1)


def _run(keys: Sequence[str], payloads: Sequence[Any]) -> list[Item]:
    assert _job is not None  # the initializer came first
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    return _job.run(keys, payloads)
