"""What all executors share (`ChunkFunction`, `Job`, `Pool`), and the executor of local processes, by loky.

The executor of a Dask cluster is in `dask_pool`.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import psutil
from loky import ProcessPoolExecutor, cpu_count

if TYPE_CHECKING:
    from stages.item_cache import Item, ItemCache  # loads zarr, which `cores` has no need of

ChunkFunction: TypeAlias = "Callable[[Sequence[Any]], Iterable[Item]]"
"""Payloads of some images -> one item for each, in order. An item must not depend on the other payloads."""
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""Environment variables of a worker, which computes on one thread."""


class PendingItems(Protocol):
    """The items of a chunk that a worker computes; a `concurrent.futures.Future` is one."""

    def result(self) -> list[Item]:
        """Wait for the items, and return them."""
        ...


class Pool(Protocol):
    """Workers that compute chunks."""

    @property
    def workers(self) -> int: ...

    def submit(self, keys: Sequence[str], payloads: Sequence[Any]) -> PendingItems:
        """Give a chunk to the workers.

        Raises:
            BrokenExecutor: a worker died. `PendingItems.result` may raise it too.
        """
        ...

    def restart(self) -> None:
        """Replace broken workers by new ones. Chunks that were submitted before are lost."""
        ...


@dataclass(frozen=True)
class Job:
    """What all chunks of a stage have in common. It can be pickled."""

    cache: ItemCache
    compute_chunk: ChunkFunction

    def run(self, keys: Sequence[str], payloads: Sequence[Any]) -> list[Item]:
        """The items of one chunk, computed in a worker.

        A worker that cannot reach the item cache stores nothing; the main process then stores the items.
        """
        if not self.cache.reachable():
            return list(self.compute_chunk(payloads))
        return list(run_chunk(self.cache, keys, payloads, self.compute_chunk))


def run_chunk(
    cache: ItemCache, keys: Sequence[str], payloads: Sequence[Any], compute_chunk: ChunkFunction
) -> Iterator[Item]:
    """The items of one chunk in order, from the cache as far as it holds them. New items are stored immediately.

    So a chunk that is computed again after the death of a worker repeats no finished item.
    """
    cached = [cache.get(key) for key in keys]
    missing = [payload for payload, item in zip(payloads, cached, strict=True) if item is None]
    computed = iter(compute_chunk(missing)) if missing else iter(())
    for key, item in zip(keys, cached, strict=True):
        if item is None:
            item = next(computed, None)
            if item is None:
                raise ValueError(f"the chunk function gave fewer than {len(missing)} items for {len(missing)} payloads")
            cache.put(key, item)
        yield item


def cores() -> int:
    """Number of processor cores that this process may use, by its affinity and the quota of its container."""
    return int(cpu_count())


@contextmanager
def local_pool(workers: int, job: Job) -> Iterator[Pool]:
    """Local processes with one thread each. They end with the block, whatever they do."""
    job.cache.create()
    pool = _LocalPool(workers, job)
    try:
        yield pool
    finally:
        pool.executor.shutdown(wait=True, kill_workers=True)


class _LocalPool:
    """A pool by loky. The pool of the standard library cannot kill its workers, and may hang when a worker dies."""

    def __init__(self, workers: int, job: Job) -> None:
        self.workers = workers
        self._job = job
        self.executor = self._open()

    def submit(self, keys: Sequence[str], payloads: Sequence[Any]) -> Future[list[Item]]:
        return self.executor.submit(_run_in_worker, keys, payloads)

    def restart(self) -> None:
        self.executor.shutdown(wait=True, kill_workers=True)
        self.executor = self._open()

    def _open(self) -> ProcessPoolExecutor:
        arguments = (self._job, os.getpid())
        return ProcessPoolExecutor(
            self.workers, timeout=None, env=ONE_THREAD, initializer=_start_worker, initargs=arguments
        )


# --- in a worker ---

_job: Job | None = None


def _start_worker(job: Job, parent: int) -> None:
    """Keep the job, ignore SIGINT, and end when the main process ends.

    Ctrl-C sends SIGINT to the whole process group. The main process handles it.
    """
    global _job
    _job = job
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process when the parent ends.

    Without this, a worker would wait for ever after a kill -9 of the parent, because it holds both ends of the queue
    that it reads.
    """
    with suppress(psutil.NoSuchProcess):
        psutil.Process(parent).wait()
    os._exit(1)


def _run_in_worker(keys: Sequence[str], payloads: Sequence[Any]) -> list[Item]:
    assert _job is not None  # the initializer has run
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    return _job.run(keys, payloads)
