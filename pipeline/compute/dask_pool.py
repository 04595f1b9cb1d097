"""The workers of a Dask scheduler. A lost worker's chunks are done again by the scheduler."""

from __future__ import annotations

import logging
import os
import pickle
import platform
import queue
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from uuid import uuid4

from pipeline.compute.executors import ONE_THREAD, Job, Pool
from stages.code_version import code_version
from stages.item_cache import Item
from stages.types import UserError

CONNECT_S = 8
"""Seconds in which the scheduler has to answer."""
START_S, PATIENCE_S = 5, 60
"""Seconds that a scheduler may be without any worker, at the start and later, before we give up."""
LOOK_S = 5
"""Seconds between two looks whether there are workers."""
PACKAGES = ("numpy", "scipy", "pillow", "torch", "timm")
"""Packages whose version decides the last bits of an item."""
CALL = "__import__('importlib').import_module('pipeline.compute.dask_pool').run(*arguments)"
"""What a task evaluates. Dask hangs where a worker cannot import a task's function, and its scheduler would have to
import it too; an import inside the task fails as any task does."""
SAME = "workers need the packages and the code of this project: install them there, then restart the workers"


@contextmanager
def dask_pool(address: str, job: Job) -> Iterator[Pool]:
    """The workers of a scheduler at `tcp://host:port`; what is under way is cancelled when the block ends."""
    job.cache.create()
    client = _connect(address)
    try:
        yield _DaskPool(client, address, job)
    finally:
        with suppress(Exception):  # the scheduler may be gone
            client.cancel(list(client.futures), force=True)
        with suppress(Exception):
            client.close()


class _DaskPool:
    """The job is a task's result, not scattered: what was scattered is lost with the workers that hold it
    (dask/distributed#3149), while a task is done again. Payloads are arguments of their task for the same reason.
    """

    def __init__(self, client: Any, address: str, job: Job) -> None:
        self._client, self._address, self._name = client, address, uuid4().hex
        self.wait_for_workers(START_S)
        self._job = self._submit(bytes, pickle.dumps(job))

    @property
    def workers(self) -> int:
        return max(1, self._count())

    def submit(self, keys: Sequence[str], payloads: Sequence[Any]) -> _Answer:
        arguments = (self._name, environment(), self._job, pickle.dumps((keys, payloads)))
        return _Answer(self, self._submit(eval, CALL, {"arguments": arguments}))

    def restart(self) -> None:
        """Nothing to do: the scheduler gives a dead worker's tasks to others."""

    def _submit(self, function: Any, *arguments: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that images and weights make large tasks
            return self._client.submit(function, *arguments, pure=False)

    def _count(self) -> int:
        try:
            return len(self._client.nthreads())
        except Exception as fault:
            raise self._lost() from fault

    def wait_for_workers(self, patience_s: float) -> None:
        """Return once there is a worker. Raises UserError where there is none for so long."""
        try:
            self._client.wait_for_workers(1, timeout=patience_s)
        except TimeoutError as fault:
            raise UserError(
                f"compute.executor: the Dask scheduler at {self._address} has had no worker for {patience_s:g} s; "
                f"start some with `dask worker {self._address} --nworkers N --nthreads 1`"
            ) from fault
        except Exception as fault:
            raise self._lost() from fault

    def _lost(self) -> UserError:
        return UserError(
            f"compute.executor: the connection to the Dask scheduler at {self._address} was lost; "
            "start it and run again: finished images are kept"
        )

    def in_words(self, fault: Exception) -> Exception:
        """What to raise where a chunk ended in `fault`: the work's own exceptions stay as they are."""
        if isinstance(fault, CancelledError):
            return self._lost()
        if isinstance(fault, ImportError):
            return UserError(
                f"compute.executor: a Dask worker of {self._address} cannot import our code: {fault}; {SAME}"
            )
        if type(fault).__name__ == "KilledWorker":
            return UserError(
                f"compute.executor: workers of {self._address} died again and again at the same images; if memory ran "
                "out, give them more; `compute.executor: serial` helps to find the image"
            )
        return fault


class _Answer:
    """A chunk's items to come."""

    def __init__(self, pool: _DaskPool, future: Any) -> None:
        self._pool, self._future = pool, future

    def result(self) -> list[Item]:
        while True:
            try:
                items: list[Item] = self._future.result(timeout=LOOK_S)
            except TimeoutError as fault:
                if self._future.status == "error":  # the work's own TimeoutError
                    raise self._pool.in_words(fault) from fault
                self._pool.wait_for_workers(PATIENCE_S)
            except (Exception, CancelledError) as fault:
                raise self._pool.in_words(fault) from fault
            else:
                return items


def _connect(address: str) -> Any:
    """A client of the scheduler, in a thread: a server that is silent or no scheduler would hold us for ever."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its GPU monitor imports a deprecated package where there is one
        from distributed import Client
    for name in ("distributed", "distributed.client"):  # faults are told by us, in one line
        logging.getLogger(name).setLevel(logging.CRITICAL)
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def connect() -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # versions: each chunk compares those that matter
                answers.put(Client(address, timeout=CONNECT_S, set_as_default=False, name="burnish"))
        except Exception as fault:
            answers.put(fault)

    threading.Thread(target=connect, daemon=True).start()
    try:
        found = answers.get(timeout=CONNECT_S + 1)
    except queue.Empty:
        found = TimeoutError("what is there does not answer as a scheduler does")
    if isinstance(found, Exception):
        raise UserError(
            f"compute.executor: no Dask scheduler at {address} ({found}); start one with `dask scheduler`, or choose "
            "another executor"
        ) from found
    return found


# --- in a worker ---


@cache
def environment() -> dict[str, str]:
    """Versions of all that decides an item's bytes, as this process has loaded it: asked once, at the first chunk."""
    found = {"python": f"{sys.version_info.major}.{sys.version_info.minor}"}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    return {**found, "burnish code": code_version("pipeline", "stages")}


_LOCK = threading.Lock()
"""One chunk at a time in a process: limits on threads hold for all of it, so two at once would undo each other's."""
_JOBS: dict[str, Job] = {}
"""The latest job, by name: it keeps its network from chunk to chunk."""


def run(name: str, expected: dict[str, str], job: bytes, message: bytes) -> list[Item]:
    """The items of one chunk. Raises UserError where this worker's packages or code are not the main process's."""
    with _LOCK:
        differs = [f"{key} {mine}, not {expected[key]}" for key, mine in environment().items() if mine != expected[key]]
        if differs:
            raise UserError(f"compute.executor: a Dask worker on {platform.node()} has {', '.join(differs)}; {SAME}")
        os.environ.update(ONE_THREAD)
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(1)
        if name not in _JOBS:
            _JOBS.clear()
            _JOBS[name] = pickle.loads(job)  # noqa: S301  (from our own main process)
        return _JOBS[name].run(*pickle.loads(message))  # noqa: S301
