"""`compute.executor`: which values are valid, and what each chooses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.compute import fan_out as module
from pipeline.compute.executors import Job
from pipeline.project.params import ComputeConfig, load_params
from stages.item_cache import ItemCache
from stages.types import UserError


class Opened(Exception):
    """Raised instead of starting workers; its argument is their number."""


@pytest.mark.parametrize(
    ("executor", "device", "cores", "missing", "count"),
    [
        ("auto", "cpu", 6, 100, 6),
        ("auto", "cpu", 6, 12, 4),  # never more workers than whole chunks
        ("auto", "cpu", 1, 100, None),
        ("auto", "cuda", 6, 100, None),
        ("auto", "cpu", 6, 11, None),  # too few to start a worker for
        ("processes", "cuda", 6, 100, 6),
        ("processes:3", "cpu", 6, 100, 3),
        ("processes:1", "cpu", 1, 100, 1),
        ("processes:3", "cpu", 6, 11, None),
        ("serial", "cpu", 6, 100, None),
    ],
)
def test_number_of_workers(
    executor: str, device: Any, cores: int, missing: int, count: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def local_pool(count: int, job: Job) -> None:
        raise Opened(count)

    monkeypatch.setattr(module, "cores", lambda: cores)
    monkeypatch.setattr(module, "local_pool", local_pool)
    compute, job = ComputeConfig(executor=executor, device=device), Job(ItemCache("memory://none"), len)  # type: ignore[arg-type]
    if count is None:
        assert module._choose_pool(compute, job, missing, 3) is None
    else:
        with pytest.raises(Opened) as caught:
            module._choose_pool(compute, job, missing, 3)
        assert caught.value.args == (count,)


@pytest.mark.parametrize(
    "value", ["auto", "serial", "processes", "processes:12", "dask://host-1.lan:8786", "dask://[::1]:8786"]
)
def test_valid_values(tmp_path: Path, value: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(f"compute: {{executor: '{value}'}}")
    assert load_params(path).compute.executor == value


@pytest.mark.parametrize(
    "value",
    [
        *("", "parallel", "processes:0", "processes:-1", "processes:two", "serial:2", "tcp://host:8786"),
        *("dask://host", "dask://host:0", "dask://h:70000", "dask://:8786", "dask://a b:8786", "tls://host:8786"),
    ],
)
def test_invalid_values(tmp_path: Path, value: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(f"compute: {{executor: '{value}'}}")
    with pytest.raises(UserError, match=r"compute\.executor = .*: it must be auto, serial, processes, processes:N "):
        load_params(path)
