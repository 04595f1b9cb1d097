"""The executor of a Dask cluster. If a worker is lost, the Dask scheduler lets other workers compute its chunks."""

from __future__ import annotations

import logging
import pickle
import queue
import threading
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from typing import Any
from uuid import uuid4

from pipeline.compute.dask_worker import SAME_CODE_NEEDED, environment
from pipeline.compute.executors import Job, Pool
from stages.item_cache import Item
from stages.types import UserError

CONNECT_S = 8
"""Seconds within which the scheduler has to answer."""
START_S, PATIENCE_S = 5, 60
"""Seconds that a scheduler may be without any worker before the stage fails: at the start, and later."""
CHECK_S = 5
"""Seconds between two checks whether there are workers."""
CALL = "__import__('importlib').import_module('pipeline.compute.dask_worker').run_message(*arguments)"
"""The expression that a worker evaluates for each chunk (see `_submit_chunk`)."""


@contextmanager
def dask_pool(address: str, job: Job) -> Iterator[Pool]:
    """The workers of the scheduler at `tcp://host:port`. Chunks that are not done when the block ends are cancelled."""
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
    """A pool whose workers belong to a Dask scheduler.

    The job is the result of a task, and payloads are arguments of their task. Neither is scattered, because scattered
    data are lost with the workers that hold them (dask/distributed#3149), while a task runs again.
    """

    def __init__(self, client: Any, address: str, job: Job) -> None:
        self._client, self._address, self._job_name = client, address, uuid4().hex
        self.wait_for_workers(START_S)
        self._job = self._submit(bytes, pickle.dumps(job))

    @property
    def workers(self) -> int:
        return max(1, self._count_workers())

    def submit(self, keys: Sequence[str], payloads: Sequence[Any]) -> _PendingItems:
        message = pickle.dumps((keys, payloads))
        return _PendingItems(self, self._submit_chunk(self._job_name, environment(), self._job, message))

    def restart(self) -> None:
        """Does nothing: the scheduler gives the tasks of a dead worker to other workers."""

    def _submit_chunk(self, *arguments: Any) -> Any:
        """Submit a call of `dask_worker.run_message` as an expression in text, not as a function.

        Dask sends a function as a reference to its module. A worker that cannot import the module would hang, and the
        scheduler would have to import it too. The expression imports the module inside the task, so an import error
        fails the task like any other error.
        """
        return self._submit(eval, CALL, {"arguments": arguments})

    def _submit(self, function: Any, *arguments: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Dask warns that tasks with images and weights are large
            return self._client.submit(function, *arguments, pure=False)

    def _count_workers(self) -> int:
        try:
            return len(self._client.nthreads())
        except Exception as fault:
            raise self._connection_error() from fault

    def wait_for_workers(self, patience_s: float) -> None:
        """Return as soon as there is a worker.

        Raises:
            UserError: there is none for `patience_s` seconds.
        """
        try:
            self._client.wait_for_workers(1, timeout=patience_s)
        except TimeoutError as fault:
            raise UserError(
                f"compute.executor: the Dask scheduler at {self._address} has had no worker for {patience_s:g} s; "
                f"start workers with `dask worker {self._address} --nworkers N --nthreads 1`"
            ) from fault
        except Exception as fault:
            raise self._connection_error() from fault

    def _connection_error(self) -> UserError:
        return UserError(
            f"compute.executor: the connection to the Dask scheduler at {self._address} was lost; "
            "start it and run again: finished images are kept"
        )

    def explain(self, fault: Exception) -> Exception:
        """The exception to raise for a chunk that failed with `fault`. Exceptions of the chunk function stay."""
        if isinstance(fault, CancelledError):
            return self._connection_error()
        if isinstance(fault, ImportError):
            return UserError(
                f"compute.executor: a Dask worker of {self._address} cannot import our code: {fault}; "
                f"{SAME_CODE_NEEDED}"
            )
        if type(fault).__name__ == "KilledWorker":
            return UserError(
                f"compute.executor: workers of {self._address} died again and again at the same images. If memory ran "
                "out, give them more memory. To find the image, use `compute.executor: serial`"
            )
        return fault


class _PendingItems:
    """The items of a chunk that a worker of the cluster computes."""

    def __init__(self, pool: _DaskPool, future: Any) -> None:
        self._pool, self._future = pool, future

    def result(self) -> list[Item]:
        while True:
            try:
                items: list[Item] = self._future.result(timeout=CHECK_S)
            except TimeoutError as fault:
                if self._future.status == "error":  # the chunk function raised this TimeoutError
                    raise self._pool.explain(fault) from fault
                self._pool.wait_for_workers(PATIENCE_S)
            except (Exception, CancelledError) as fault:
                raise self._pool.explain(fault) from fault
            else:
                return items


def _connect(address: str) -> Any:
    """A client of the scheduler.

    It connects in a thread, because a server that is silent, or that is no Dask scheduler, would block it for ever.

    Raises:
        UserError: no scheduler answers within `CONNECT_S`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its GPU monitor may import a deprecated package
        from distributed import Client
    for name in ("distributed", "distributed.client"):  # we report errors ourselves, in one line
        logging.getLogger(name).setLevel(logging.CRITICAL)
    results: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def connect() -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # on different versions: each chunk checks the relevant ones
                results.put(Client(address, timeout=CONNECT_S, set_as_default=False, name="burnish"))
        except Exception as fault:
            results.put(fault)

    threading.Thread(target=connect, daemon=True).start()
    try:
        result = results.get(timeout=CONNECT_S + 1)
    except queue.Empty:
        result = TimeoutError("the server there does not answer as a scheduler does")
    if isinstance(result, Exception):
        raise UserError(
            f"compute.executor: no Dask scheduler at {address} ({result}); start one with `dask scheduler`, or choose "
            "another executor"
        ) from result
    return result
