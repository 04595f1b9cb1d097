"""The part of the Dask executor that runs in a worker: checks packages and code, then computes one chunk."""

from __future__ import annotations

import os
import pickle
import platform
import sys
import threading
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from pipeline.compute.executors import ONE_THREAD, Job
from stages.code_version import code_version
from stages.item_cache import Item
from stages.types import UserError

PACKAGES = ("numpy", "scipy", "pillow", "torch", "timm")
"""Packages whose version can change the last bits of an item."""
SAME_CODE_NEEDED = (
    "workers need the packages and the code of this project: install them there, then restart the workers"
)


@cache
def environment() -> dict[str, str]:
    """Name -> version of everything that can change the bytes of an item, as this process has loaded it.

    Computed once per process: code that changes on disk later does not change the code that is loaded.
    """
    versions = {"python": f"{sys.version_info.major}.{sys.version_info.minor}"}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "missing"
    return {**versions, "burnish code": code_version("pipeline", "stages")}


_LOCK = threading.Lock()
"""Allows one chunk at a time in a process, because limits on threads hold for the whole process."""
_JOBS: dict[str, Job] = {}
"""Name -> job, for the latest job only. It keeps its network from chunk to chunk."""


def run_message(job_name: str, expected: dict[str, str], job: bytes, message: bytes) -> list[Item]:
    """Compute the items of one chunk.

    Args:
        job_name: identifies the job.
        expected: `environment` of the main process.
        job: the job, pickled.
        message: keys and payloads of the chunk, pickled.

    Raises:
        UserError: packages or code of this worker differ from those of the main process.
    """
    with _LOCK:
        differences = [
            f"{name} {own}, not {expected[name]}" for name, own in environment().items() if own != expected[name]
        ]
        if differences:
            raise UserError(
                f"compute.executor: a Dask worker on {platform.node()} has {', '.join(differences)}; {SAME_CODE_NEEDED}"
            )
        os.environ.update(ONE_THREAD)
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(1)
        if job_name not in _JOBS:
            _JOBS.clear()
            _JOBS[job_name] = pickle.loads(job)  # noqa: S301  (from our own main process)
        return _JOBS[job_name].run(*pickle.loads(message))  # noqa: S301
