"""Computes the items of many images: in this process, in local processes, or on a Dask cluster.

The items and their order do not depend on the executor. Items that the item cache holds are read from it. The missing
items are computed in chunks. At most two chunks per worker are submitted at a time, so memory does not grow with the
number of images.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from pipeline.compute.executors import ChunkFunction, Job, PendingItems, Pool, cores, local_pool, run_chunk
from pipeline.project.params import ComputeConfig
from stages.item_cache import Item, ItemCache
from stages.types import UserError

MIN_CHUNKS_FOR_WORKERS = 4
"""If fewer than this many chunks are missing, they are computed in this process, because workers take seconds to
start."""
CHUNKS_PER_WORKER = 2
"""Submitted chunks per worker: one that it computes, and one that waits."""
MAX_DEATHS = 3
"""The stage fails after this many deaths of workers in a row without a new item in the cache."""


@dataclass(frozen=True)
class Chunk:
    """Some images whose items are missing."""

    positions: Sequence[int]
    """Their positions in the order of the stage."""
    keys: Sequence[str]


def fan_out(
    compute: ComputeConfig,
    cache: ItemCache,
    keys: Sequence[str],
    read_payload: Callable[[int], Any],
    compute_chunk: ChunkFunction,
    chunk_size: int,
    progress: Callable[[int], None] = lambda done: None,
) -> Iterator[Item]:
    """The items of all keys, in order. Missing items are computed by `compute.executor` and stored in the cache.

    Args:
        compute: section `compute` of params.yaml.
        cache: the item cache.
        keys: key of each item.
        read_payload: position in `keys` -> what `compute_chunk` needs of this image, for example the bytes of its file.
            It is called when the payload is needed, and again after a worker has died.
        compute_chunk: payloads -> items. It must be picklable, and an item must have the same bytes whatever other
            payloads there are. It is sent to each worker once, so put heavy state (a network) into a
            `functools.cached_property`.
        chunk_size: largest number of payloads in a call of `compute_chunk`.
        progress: is called with the number of items that are done.

    Raises:
        UserError: no worker can be reached, or workers die again and again. Exceptions of `compute_chunk` are raised
            too.
    """
    missing = _missing_positions(cache, keys)
    opening = _choose_pool(compute, Job(cache, compute_chunk), len(missing), chunk_size) if missing else None
    if opening is None:
        computed = _compute_here(cache, keys, read_payload, compute_chunk, missing, chunk_size)
        yield from _merge(cache, keys, missing, computed, read_payload, compute_chunk, progress)
        return
    with opening as pool:
        # smaller chunks than allowed, if otherwise some workers would get no chunk
        size = min(chunk_size, math.ceil(len(missing) / (CHUNKS_PER_WORKER * pool.workers)))
        parts = [missing[start : start + size] for start in range(0, len(missing), size)]
        chunks = deque(Chunk(part, [keys[i] for i in part]) for part in parts)
        computed = _compute_in_pool(pool, chunks, read_payload, cache)
        yield from _merge(cache, keys, missing, computed, read_payload, compute_chunk, progress)


def _missing_positions(cache: ItemCache, keys: Sequence[str]) -> list[int]:
    """The first position of each key that the cache lacks."""
    first: dict[str, int] = {}
    for i, key in enumerate(keys):
        first.setdefault(key, i)
    return [i for key, i in first.items() if not cache.has(key)]


def _choose_pool(
    compute: ComputeConfig, job: Job, missing: int, chunk_size: int
) -> AbstractContextManager[Pool] | None:
    """The pool that `compute.executor` names, or None to compute in this process."""
    kind, _, rest = compute.executor.partition(":")
    if missing < MIN_CHUNKS_FOR_WORKERS * chunk_size or kind == "serial":
        return None
    if kind == "dask":
        from pipeline.compute.dask_pool import dask_pool

        return dask_pool(f"tcp:{rest}", job)
    count = int(rest) if rest else cores()
    if kind == "auto":
        from stages.torch_setup import device_named

        if count == 1 or device_named(compute.device) == "cuda":
            return None
    return local_pool(min(count, math.ceil(missing / chunk_size)), job)


def _merge(
    cache: ItemCache,
    keys: Sequence[str],
    missing: Sequence[int],
    computed: Iterator[Item],
    read_payload: Callable[[int], Any],
    compute_chunk: ChunkFunction,
    progress: Callable[[int], None],
) -> Iterator[Item]:
    """All items in order: those of the positions `missing` from `computed`, all others from the cache."""
    new = set(missing)
    for i, key in enumerate(keys):
        item = next(computed) if i in new else cache.get(key)
        if item is None:  # damaged, or deleted by another run in the meantime
            new.add(i)
            (item,) = run_chunk(cache, [key], [read_payload(i)], compute_chunk)
        elif i in new and not cache.has(key):  # from a worker that does not share the cache
            cache.put(key, item)
        cache.counts.computed += i in new
        cache.counts.cached += i not in new
        progress(i + 1)
        yield item


def _compute_here(
    cache: ItemCache,
    keys: Sequence[str],
    read_payload: Callable[[int], Any],
    compute_chunk: ChunkFunction,
    missing: Sequence[int],
    chunk_size: int,
) -> Iterator[Item]:
    """The items of the positions `missing`, computed in this process."""
    for start in range(0, len(missing), chunk_size):
        part = missing[start : start + chunk_size]
        yield from run_chunk(cache, [keys[i] for i in part], [read_payload(i) for i in part], compute_chunk)


def _compute_in_pool(
    pool: Pool, waiting: deque[Chunk], read_payload: Callable[[int], Any], cache: ItemCache
) -> Iterator[Item]:
    """The items of all chunks, in order. If workers die, new workers compute the submitted chunks again."""
    submitted: deque[tuple[Chunk, PendingItems]] = deque()
    deaths, stored = 0, 0
    while waiting or submitted:
        try:
            while waiting and len(submitted) < CHUNKS_PER_WORKER * pool.workers:
                payloads = [read_payload(i) for i in waiting[0].positions]
                submitted.append((waiting[0], pool.submit(waiting[0].keys, payloads)))
                waiting.popleft()
            items = submitted[0][1].result()
        except BrokenExecutor as fault:
            waiting.extendleft(chunk for chunk, _ in reversed(submitted))
            stored_before, stored = stored, sum(cache.has(key) for chunk, _ in submitted for key in chunk.keys)
            deaths = 1 if stored > stored_before else deaths + 1
            if deaths >= MAX_DEATHS:
                raise _death_error([chunk for chunk, _ in submitted], cache, fault) from fault
            submitted.clear()
            pool.restart()
            continue
        submitted.popleft()
        deaths, stored = 0, 0
        yield from items


def _death_error(submitted: Iterable[Chunk], cache: ItemCache, fault: BrokenExecutor) -> UserError:
    """Says between which images the workers died, numbered from 1, and with which exit codes."""
    numbers = [
        i + 1 for chunk in submitted for i, key in zip(chunk.positions, chunk.keys, strict=True) if not cache.has(key)
    ]
    where = f"at one of the images {min(numbers)} to {max(numbers)} of this stage" if numbers else "at the start"
    codes = re.search(r"exit codes of the workers are \{(.*)\}", str(fault))
    return UserError(
        f"a worker process died {MAX_DEATHS} times in a row {where}{f' ({codes[1]})' if codes else ''}. If memory ran "
        "out, use fewer workers (`compute.executor: processes:1`). To find the image, use `compute.executor: serial`"
    )
