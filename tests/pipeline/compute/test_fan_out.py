"""Fan-out: the same bytes from every executor; deaths, faults and closing; nothing held that is not needed."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from pipeline.compute import dask_pool
from pipeline.compute import fan_out as module
from pipeline.compute.executors import Job
from pipeline.compute.fan_out import fan_out
from pipeline.project.params import ComputeConfig, load_params
from stages.item_cache import Item, ItemCache
from stages.types import UserError
from tests.conftest import ROOT

LIMIT_S = 60
"""Longest wait for other processes before a test fails."""


@dataclass(frozen=True)
class Toy:
    """number -> {its square, a name}; notes each computation in the file `log`/number, each load in `log`/loads."""

    log: Path
    dies_at: int = -1
    always: bool = False
    """Die at each attempt, not at the first alone."""
    fails_at: int = -1
    fault: type[Exception] = UserError

    @cached_property
    def offset(self) -> int:
        _note(self.log / "loads")
        return 7

    def __call__(self, payloads: Sequence[int]) -> Iterator[Item]:
        for number in payloads:
            if number == self.dies_at and (self.always or not (self.log / "died").exists()):
                _note(self.log / "died")
                os.kill(os.getpid(), signal.SIGKILL)
            if number == self.fails_at:
                raise self.fault(f"image {number} is bad")
            _note(self.log / str(number))
            yield {
                "square": np.full((3, number % 4), number**2 + self.offset, np.float16),
                "name": np.asarray(number),
            }


def _note(file: Path) -> None:
    """One byte more, in one system call: several processes may do so at once."""
    with file.open("ab") as out:
        out.write(b".")


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def key(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    folder = tmp_path / "log"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The `executor` of a Dask cluster of two worker processes on this machine."""
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1") as found:
        yield found.scheduler_address.replace("tcp://", "dask://")


@pytest.fixture(params=["processes:2", "dask"])
def remote(request: pytest.FixtureRequest) -> str:
    """An `executor` with two workers."""
    return request.getfixturevalue("cluster") if request.param == "dask" else request.param


def run(
    executor: str, root: Path | str, work: Any, numbers: Sequence[int], **more: Any
) -> tuple[list[Item], ItemCache]:
    cache = ItemCache(str(root))
    compute = ComputeConfig(executor=executor)
    keys = [key(number) for number in numbers]
    return list(fan_out(compute, cache, keys, lambda i: numbers[i], work, more.pop("chunk", 3), **more)), cache


def content(items: Sequence[Item]) -> list[dict[str, tuple[Any, ...]]]:
    return [
        {name: (value.dtype, value.shape, value.tobytes()) for name, value in sorted(item.items())} for item in items
    ]


def workers() -> list[Any]:
    """The local worker processes that live."""
    return [one for one in psutil.Process().children(recursive=True) if "popen_loky_posix" in " ".join(one.cmdline())]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


NUMBERS = [*range(20), 3, 4, *range(20, 40)]
"""With two images that are there twice."""


def test_every_executor_gives_the_same_items_and_the_same_cache(remote: str, tmp_path: Path, log: Path) -> None:
    (tmp_path / "serial").mkdir()
    expected, plain = run("serial", tmp_path / "one", Toy(tmp_path / "serial"), NUMBERS)
    assert [int(item["name"]) for item in expected] == NUMBERS
    assert (plain.counts.cached, plain.counts.computed) == (2, 40)

    run("serial", tmp_path / "two", Toy(log), [2, 5, 30])
    done: list[int] = []
    found, cache = run(remote, tmp_path / "two", Toy(log), NUMBERS, progress=done.append)
    assert content(found) == content(expected)
    assert done == list(range(1, 43))
    assert (cache.counts.cached, cache.counts.computed) == (5, 37)
    assert files(tmp_path / "two") == files(tmp_path / "one")
    assert {_size(log / str(number)) for number in range(40)} == {1}
    assert 2 <= _size(log / "loads") <= 3  # in this process, and once in each worker that got something

    again, cache = run(remote, tmp_path / "two", Toy(log), NUMBERS)
    assert content(again) == content(expected)
    assert (cache.counts.cached, cache.counts.computed) == (42, 0)


def test_features_are_the_same_from_processes(tmp_path: Path) -> None:
    from pipeline.stage_io.items.features import FeaturesWork
    from stages.backbone.build import build
    from stages.backbone.config import BackboneConfig
    from stages.training import Session

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8, 64, 64, 3), np.uint8)
    config = BackboneConfig(model="hybrid", image_side=64, crop_side=64, depth=1, steps=0, crops=2, batch=2)
    work = FeaturesWork(build(config, images[:2], images[2:3], 0, Session()), "cpu")
    payloads = [_png(image) for image in images]
    keys = work.keys([hashlib.sha256(data).hexdigest() for data in payloads])
    found = [
        list(
            fan_out(
                ComputeConfig(executor=executor), ItemCache(str(tmp_path / name)), keys, payloads.__getitem__, work, 2
            )
        )
        for name, executor in (("one", "serial"), ("two", "processes:1"))
    ]
    assert content(found[1]) == content(found[0])
    assert found[0][0]["tokens"].shape == (4, 4, 176)
    assert {"tokens", "attention"} == set(found[0][0])
    assert files(tmp_path / "one") == files(tmp_path / "two")
    assert FeaturesWork(work.backbone, "cuda").keys(["a"]) != work.keys(["a"])


def _png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "png")
    return buffer.getvalue()


def test_a_dead_workers_chunk_is_done_again_without_its_finished_items(remote: str, tmp_path: Path, log: Path) -> None:
    numbers = list(range(24))
    found, cache = run(remote, tmp_path / "cache", Toy(log, dies_at=8), numbers)  # the last of its chunk
    assert [int(item["name"]) for item in found] == numbers
    assert (log / "died").exists()
    again = sum(_size(log / str(number)) - 1 for number in numbers)
    assert 0 <= again <= 1  # what the other worker had in hand, when it was ended with the broken pool
    assert (cache.counts.cached, cache.counts.computed) == (0, 24)


def test_a_chunk_that_always_kills_its_worker_ends_the_stage(tmp_path: Path, log: Path) -> None:
    with pytest.raises(UserError, match=r"died 3 times in a row at one of the images 8 to .*SIGKILL.*serial") as caught:
        run("processes:2", tmp_path / "cache", Toy(log, dies_at=7, always=True), range(24))
    assert "\n" not in str(caught.value)
    assert 3 <= _size(log / "died") <= 6  # more where the other worker still got on with its images
    assert workers() == []


def test_faults_of_the_work_come_through(remote: str, tmp_path: Path, log: Path) -> None:
    with pytest.raises(UserError, match=r"^image 9 is bad$"):
        run(remote, tmp_path / "cache", Toy(log, fails_at=9), range(24))
    with pytest.raises(ZeroDivisionError, match="image 10 is bad") as caught:
        run(remote, tmp_path / "other", Toy(log, fails_at=10, fault=ZeroDivisionError), range(24))
    if remote == "processes:2":  # Dask sends tracebacks itself
        assert "in __call__" in str(caught.value.__cause__)
    assert workers() == []


@dataclass(frozen=True)
class Late:
    """Ends its chunks in the wrong order: the first waits until the other worker is through with one."""

    gate: Path

    def __call__(self, payloads: Sequence[int]) -> Iterator[Item]:
        for number in payloads:
            if number >= len(payloads):
                self.gate.touch()
            elif number == 0:
                limit = time.monotonic() + LIMIT_S
                while not self.gate.exists() and time.monotonic() < limit:
                    threading.Event().wait(0.01)
            yield {"name": np.asarray(number), "late": np.asarray(self.gate.exists())}


def test_order_does_not_depend_on_who_is_first_and_few_payloads_are_read_ahead(remote: str, tmp_path: Path) -> None:
    read: list[int] = []
    numbers = list(range(60))

    def payload(i: int) -> int:
        read.append(i)
        return numbers[i]

    cache, compute = ItemCache(str(tmp_path / "cache")), ComputeConfig(executor=remote)
    items = fan_out(compute, cache, [key(number) for number in numbers], payload, Late(tmp_path / "gate"), 2)
    for i, item in enumerate(items):
        assert (int(item["name"]), bool(item["late"])) == (i, True)
        assert len(read) <= i + 4 * 2 + 2  # two chunks a worker, and the one that is being handed out
    assert read == numbers


def test_a_worker_that_does_not_see_the_cache_leaves_storing_to_us(remote: str, tmp_path: Path, log: Path) -> None:
    elsewhere = Job(ItemCache(str(tmp_path / "absent")), Toy(log))
    assert content(elsewhere.run([key(3)], [3])) == content(list(Toy(log)([3])))
    assert not (tmp_path / "absent").exists()
    root = f"memory://{tmp_path.name}"  # each process has its own
    found, cache = run(remote, root, Toy(log), range(24))
    assert content([cache.get(key(number)) or {} for number in range(24)]) == content(found)
    assert cache.counts.computed == 24


def test_a_damaged_item_is_computed_here(tmp_path: Path, log: Path) -> None:
    expected, _ = run("serial", tmp_path / "cache", Toy(log), range(4))
    (path,) = (tmp_path / "cache").rglob(f"{key(2)}*")
    path.write_bytes(b"half")
    found, cache = run("processes:2", tmp_path / "cache", Toy(log), range(4))
    assert content(found) == content(expected)
    assert (cache.counts.cached, cache.counts.computed) == (3, 1)
    assert cache.get(key(2)) is not None


def test_closing_ends_the_workers(tmp_path: Path, log: Path) -> None:
    compute, cache = ComputeConfig(executor="processes:2"), ItemCache(str(tmp_path / "cache"))

    def items() -> Iterator[Item]:
        return fan_out(compute, cache, [key(i) for i in range(30)], int, Toy(log), 3)  # type: ignore[return-value]

    left = items()
    next(left)
    assert len(workers()) == 2
    left.close()  # type: ignore[attr-defined]
    assert workers() == []

    def bad_payload(i: int) -> int:
        raise FileNotFoundError("gone")

    with pytest.raises(FileNotFoundError, match="gone"):
        list(fan_out(compute, cache, [key(i) for i in range(60, 90)], bad_payload, Toy(log), 3))
    assert workers() == []


STAGE = """
import os, signal, sys, threading
from dataclasses import dataclass
from pipeline.compute.fan_out import fan_out
from pipeline.project.params import ComputeConfig
from stages.item_cache import ItemCache

@dataclass(frozen=True)
class Hangs:
    def __call__(self, payloads):
        print(os.getpid(), os.environ["OMP_NUM_THREADS"], "torch" in sys.modules, flush=True)
        threading.Event().wait()

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background processes start with it ignored
    keys = [f"{i:064x}" for i in range(40)]
    list(fan_out(ComputeConfig(executor="processes:2"), ItemCache(sys.argv[1]), keys, str, Hangs(), 4))
"""


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (lambda stage: stage.kill(), -signal.SIGKILL),
        (lambda stage: os.killpg(stage.pid, signal.SIGINT), -signal.SIGINT),  # Ctrl-C reaches the workers too
    ],
)
def test_no_worker_outlives_the_stage(end: Callable[[Any], None], code: int, tmp_path: Path) -> None:
    script = tmp_path / "stage.py"
    script.write_text(textwrap.dedent(STAGE))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("OMP_NUM_THREADS")
    with subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "cache")],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as stage:
        assert stage.stdout is not None
        said = [stage.stdout.readline().split() for _ in range(2)]
        family = psutil.Process(stage.pid).children(recursive=True)
        assert {int(pid) for pid, _, _ in said} <= {process.pid for process in family}
        assert {tuple(rest) for _, *rest in said} == {("1", "False")}
        end(stage)
        assert stage.wait(LIMIT_S) == code
    _, alive = psutil.wait_procs(family, timeout=LIMIT_S)
    assert alive == []


def test_an_unreachable_scheduler_is_one_line(tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_pool, "CONNECT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(UserError, match=rf"no Dask scheduler at tcp://127\.0\.0\.1:{port}") as caught:
            run(f"dask://127.0.0.1:{port}", tmp_path / "cache", Toy(log), range(24))
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=rf"no Dask scheduler at tcp://127\.0\.0\.1:{port} .*start one with"):
        run(f"dask://127.0.0.1:{port}", tmp_path / "cache", Toy(log), range(24))


def test_a_scheduler_without_workers(tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from distributed import LocalCluster

    monkeypatch.setattr(dask_pool, "START_S", 0.5)
    with LocalCluster(n_workers=0, dashboard_address=None, host="127.0.0.1") as empty:
        address = empty.scheduler_address
        with pytest.raises(UserError, match=rf"{address} has had no worker for 0\.5 s; start some with `dask worker"):
            run(address.replace("tcp", "dask"), tmp_path / "cache", Toy(log), range(24))


def test_workers_with_other_packages_or_without_ours(
    cluster: str, tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        here = {**dask_pool.environment(), "numpy": "0.1"}
        patch.setattr(dask_pool, "environment", lambda: here)
        with pytest.raises(UserError, match=rf"a Dask worker on .* has numpy {np.__version__}, not 0\.1; workers need"):
            run(cluster, tmp_path / "cache", Toy(log), range(24))
    monkeypatch.setattr(dask_pool, "CALL", dask_pool.CALL.replace("pipeline.", "no_pipeline."))
    with pytest.raises(UserError, match=r"cannot import our code: No module named 'no_pipeline'; workers"):
        run(cluster, tmp_path / "cache", Toy(log), range(24))


class Chosen(Exception):
    """Instead of workers: how many were asked for."""


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
def test_what_is_chosen(
    executor: str, device: Any, cores: int, missing: int, count: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def chosen(count: int, job: Job) -> None:
        raise Chosen(count)

    monkeypatch.setattr(module, "cores", lambda: cores)
    monkeypatch.setattr(module, "local_pool", chosen)
    compute, job = ComputeConfig(executor=executor, device=device), Job(ItemCache("memory://none"), len)  # type: ignore[arg-type]
    if count is None:
        assert module._pool(compute, job, missing, 3) is None
    else:
        with pytest.raises(Chosen) as caught:
            module._pool(compute, job, missing, 3)
        assert caught.value.args == (count,)


@pytest.mark.parametrize(
    "value", ["auto", "serial", "processes", "processes:12", "dask://host-1.lan:8786", "dask://[::1]:8786"]
)
def test_executors(tmp_path: Path, value: str) -> None:
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
def test_bad_executors(tmp_path: Path, value: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(f"compute: {{executor: '{value}'}}")
    with pytest.raises(UserError, match=r"compute\.executor = .*: it must be auto, serial, processes, processes:N "):
        load_params(path)
