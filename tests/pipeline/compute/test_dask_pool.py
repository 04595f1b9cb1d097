"""Dask clusters that cannot be used: each gives an error of one line that says what to do."""

from __future__ import annotations

import socket
from pathlib import Path

import numpy as np
import pytest

from pipeline.compute import dask_pool
from stages.types import UserError
from tests.pipeline.compute.toy_items import Squares, run


def test_an_unreachable_scheduler(tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_pool, "CONNECT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(UserError, match=rf"no Dask scheduler at tcp://127\.0\.0\.1:{port}") as caught:
            run(f"dask://127.0.0.1:{port}", tmp_path / "cache", Squares(log), range(24))
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=rf"no Dask scheduler at tcp://127\.0\.0\.1:{port} .*start one with"):
        run(f"dask://127.0.0.1:{port}", tmp_path / "cache", Squares(log), range(24))


def test_a_scheduler_without_workers(tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from distributed import LocalCluster

    monkeypatch.setattr(dask_pool, "START_S", 0.5)
    with LocalCluster(n_workers=0, dashboard_address=None, host="127.0.0.1") as empty:
        address = empty.scheduler_address
        with pytest.raises(UserError, match=rf"{address} has had no worker for 0\.5 s; start workers with `dask work"):
            run(address.replace("tcp", "dask"), tmp_path / "cache", Squares(log), range(24))


@pytest.mark.long
def test_workers_with_other_packages_or_without_our_code(
    cluster: str, tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        here = {**dask_pool.environment(), "numpy": "0.1"}
        patch.setattr(dask_pool, "environment", lambda: here)
        with pytest.raises(UserError, match=rf"a Dask worker on .* has numpy {np.__version__}, not 0\.1; workers need"):
            run(cluster, tmp_path / "cache", Squares(log), range(24))
    monkeypatch.setattr(dask_pool, "CALL", dask_pool.CALL.replace("pipeline.", "no_pipeline."))
    with pytest.raises(UserError, match=r"cannot import our code: No module named 'no_pipeline'; workers"):
        run(cluster, tmp_path / "cache", Squares(log), range(24))
