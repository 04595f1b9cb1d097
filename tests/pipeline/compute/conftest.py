"""Executors with two workers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """The folder in which `Squares` notes what it computes."""
    folder = tmp_path / "log"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The `executor` of a Dask cluster of two worker processes on this machine."""
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1") as local_cluster:
        yield local_cluster.scheduler_address.replace("tcp://", "dask://")


@pytest.fixture(params=["processes:2", "dask"])
def executor(request: pytest.FixtureRequest) -> str:
    """Each `executor` with two workers."""
    return request.getfixturevalue("cluster") if request.param == "dask" else request.param
