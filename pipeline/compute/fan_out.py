"""Per-image work in this process, in several, or on a Dask cluster: the same items in the same order from each.

What has been computed is found in the item cache; the rest goes a chunk at a time through a
`concurrent.futures.Executor`. At most two chunks a worker are under way, so memory does not grow with the number of
images.
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

from pipeline.compute.executors import Answer, Job, Pool, Work, cores, local_pool, run_chunk
from pipeline.project.params import ComputeConfig
from stages.item_cache import Item, ItemCache
from stages.types import UserError

FEW_CHUNKS = 4
"""Fewer missing items than this many chunks are computed here: a worker takes seconds to start."""
AHEAD = 2
"""Chunks a worker: the one that it computes and the one that lies ready."""
DEATHS = 3
"""So many deaths of workers in a row, without one item more in the cache, and we give up."""


@dataclass(frozen=True)
class Chunk:
    """A few images whose items are missing."""

    positions: Sequence[int]
    """Their places in the stage's order."""
    keys: Sequence[str]


def fan_out(
    compute: ComputeConfig,
    cache: ItemCache,
    keys: Sequence[str],
    payload: Callable[[int], Any],
    work: Work,
    chunk: int,
    progress: Callable[[int], None] = lambda done: None,
) -> Iterator[Item]:
    """Items of all keys, in order; missing ones are computed where `compute.executor` says, and kept in the cache.

    Args:
        payload: what `work` needs of the image at a place in `keys`, say its file's bytes; called when it is needed,
            and again where a worker died.
        work: picklable; computes the items of some payloads. It travels to each worker once, so heavy state (a network)
            belongs into a `functools.cached_property`. It must give the same bytes whatever payloads are beside.
        chunk: most images that `work` gets at a time.
        progress: called with the number of items that are done.

    Raises:
        UserError: workers cannot be reached, or die again and again; and whatever `work` raises.
    """
    absent = _absent(cache, keys)
    if not absent or (pool := _pool(compute, Job(cache, work), len(absent), chunk)) is None:
        fresh = _here(cache, keys, payload, work, absent, chunk)
        yield from _all(cache, keys, absent, fresh, payload, work, progress)
        return
    with pool as opened:
        size = min(chunk, math.ceil(len(absent) / (AHEAD * opened.workers)))  # so that every worker gets its share
        parts = [absent[start : start + size] for start in range(0, len(absent), size)]
        chunks = deque(Chunk(part, [keys[i] for i in part]) for part in parts)
        fresh = _in_order(opened, chunks, payload, cache)
        yield from _all(cache, keys, absent, fresh, payload, work, progress)


def _absent(cache: ItemCache, keys: Sequence[str]) -> list[int]:
    """Where in `keys` something is to be computed: the first place of each key that the cache lacks."""
    first: dict[str, int] = {}
    for i, key in enumerate(keys):
        first.setdefault(key, i)
    return [i for key, i in first.items() if not cache.has(key)]


def _pool(compute: ComputeConfig, job: Job, missing: int, chunk: int) -> AbstractContextManager[Pool] | None:
    """What `compute.executor` names, or None for this process."""
    kind, _, rest = compute.executor.partition(":")
    if missing < FEW_CHUNKS * chunk or kind == "serial":
        return None
    if kind == "dask":
        from pipeline.compute.dask_pool import dask_pool

        return dask_pool(f"tcp:{rest}", job)
    count = int(rest) if rest else cores()
    if kind == "auto":
        from stages.torch_setup import device_named

        if count == 1 or device_named(compute.device) == "cuda":
            return None
    return local_pool(min(count, math.ceil(missing / chunk)), job)


def _all(
    cache: ItemCache,
    keys: Sequence[str],
    absent: Sequence[int],
    fresh: Iterator[Item],
    payload: Callable[[int], Any],
    work: Work,
    progress: Callable[[int], None],
) -> Iterator[Item]:
    """Items in order: those of `absent` from `fresh`, the others from the cache."""
    new = set(absent)
    for i, key in enumerate(keys):
        item = next(fresh) if i in new else cache.get(key)
        if item is None:  # damaged, or dropped by another run since we looked
            new.add(i)
            (item,) = run_chunk(cache, [key], [payload(i)], work)
        elif i in new and not cache.has(key):  # from a worker that does not share the cache
            cache.put(key, item)
        cache.counts.computed += i in new
        cache.counts.cached += i not in new
        progress(i + 1)
        yield item


def _here(
    cache: ItemCache, keys: Sequence[str], payload: Callable[[int], Any], work: Work, absent: Sequence[int], chunk: int
) -> Iterator[Item]:
    """Items of the places `absent`, computed in this process."""
    for start in range(0, len(absent), chunk):
        part = absent[start : start + chunk]
        yield from run_chunk(cache, [keys[i] for i in part], [payload(i) for i in part], work)


def _in_order(pool: Pool, waiting: deque[Chunk], payload: Callable[[int], Any], cache: ItemCache) -> Iterator[Item]:
    """Items of the chunks, in order. When workers die, what was under way is done again by new ones."""
    sent: deque[tuple[Chunk, Answer]] = deque()
    deaths, stored = 0, 0
    while waiting or sent:
        try:
            while waiting and len(sent) < AHEAD * pool.workers:
                payloads = [payload(i) for i in waiting[0].positions]
                sent.append((waiting[0], pool.submit(waiting[0].keys, payloads)))
                waiting.popleft()
            items = sent[0][1].result()
        except BrokenExecutor as fault:
            waiting.extendleft(chunk for chunk, _ in reversed(sent))
            before, stored = stored, sum(cache.has(key) for chunk, _ in sent for key in chunk.keys)
            deaths = 1 if stored > before else deaths + 1
            if deaths >= DEATHS:
                raise _given_up([chunk for chunk, _ in sent], cache, fault) from fault
            sent.clear()
            pool.restart()
            continue
        sent.popleft()
        deaths, stored = 0, 0
        yield from items


def _given_up(sent: Iterable[Chunk], cache: ItemCache, fault: BrokenExecutor) -> UserError:
    places = [i + 1 for chunk in sent for i, key in zip(chunk.positions, chunk.keys, strict=True) if not cache.has(key)]
    where = f"at one of the images {min(places)} to {max(places)} of this stage" if places else "as it started"
    code = re.search(r"exit codes of the workers are \{(.*)\}", str(fault))
    return UserError(
        f"a worker process died {DEATHS} times in a row {where}{f' ({code[1]})' if code else ''}; if memory ran out, "
        "use fewer (`compute.executor: processes:1`); `compute.executor: serial` helps to find the image"
    )
