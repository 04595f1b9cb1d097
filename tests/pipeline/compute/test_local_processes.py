"""Local processes: features, repeated deaths, damaged items, and that no worker outlives the stage."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from pipeline.compute.fan_out import fan_out
from pipeline.project.params import ComputeConfig
from stages.item_cache import Item, ItemCache
from stages.types import UserError
from tests.conftest import ROOT
from tests.pipeline.compute.toy_items import LIMIT_S, Squares, content, files, key, local_workers, notes, run


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
    serial, parallel = (
        list(
            fan_out(
                ComputeConfig(executor=executor), ItemCache(str(tmp_path / name)), keys, payloads.__getitem__, work, 2
            )
        )
        for name, executor in (("one", "serial"), ("two", "processes:1"))
    )
    assert content(parallel) == content(serial)
    assert serial[0]["tokens"].shape == (4, 4, 176)
    assert {"tokens", "attention"} == set(serial[0])
    assert files(tmp_path / "one") == files(tmp_path / "two")
    assert FeaturesWork(work.backbone, "cuda").keys(["a"]) != work.keys(["a"])


def _png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "png")
    return buffer.getvalue()


@pytest.mark.long
def test_a_chunk_that_always_kills_its_worker_ends_the_stage(tmp_path: Path, log: Path) -> None:
    with pytest.raises(UserError, match=r"died 3 times in a row at one of the images 8 to .*SIGKILL.*serial") as caught:
        run("processes:2", tmp_path / "cache", Squares(log, dies_at=7, always=True), range(24))
    assert "\n" not in str(caught.value)
    assert notes(log / "died") >= 3  # more if the other worker stored new items meanwhile
    assert local_workers() == []


def test_a_damaged_item_is_computed_in_this_process(tmp_path: Path, log: Path) -> None:
    expected, _ = run("serial", tmp_path / "cache", Squares(log), range(4))
    (path,) = (tmp_path / "cache").rglob(f"{key(2)}*")
    path.write_bytes(b"half")
    items, cache = run("processes:2", tmp_path / "cache", Squares(log), range(4))
    assert content(items) == content(expected)
    assert (cache.counts.cached, cache.counts.computed) == (3, 1)
    assert cache.get(key(2)) is not None


def test_closing_ends_the_workers(tmp_path: Path, log: Path) -> None:
    compute, cache = ComputeConfig(executor="processes:2"), ItemCache(str(tmp_path / "cache"))

    def start() -> Iterator[Item]:
        return fan_out(compute, cache, [key(i) for i in range(30)], int, Squares(log), 3)  # type: ignore[return-value]

    items = start()
    next(items)
    assert len(local_workers()) == 2
    items.close()  # type: ignore[attr-defined]
    assert local_workers() == []

    def missing_payload(i: int) -> int:
        raise FileNotFoundError("gone")

    with pytest.raises(FileNotFoundError, match="gone"):
        list(fan_out(compute, cache, [key(i) for i in range(60, 90)], missing_payload, Squares(log), 3))
    assert local_workers() == []


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
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background process of a shell starts with it ignored
    keys = [f"{i:064x}" for i in range(40)]
    list(fan_out(ComputeConfig(executor="processes:2"), ItemCache(sys.argv[1]), keys, str, Hangs(), 4))
"""


@pytest.mark.long
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
    environment.pop("OMP_NUM_THREADS", None)
    with subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "cache")],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as stage:
        assert stage.stdout is not None
        lines = [stage.stdout.readline().split() for _ in range(2)]  # (process id, threads, torch is loaded)
        family = psutil.Process(stage.pid).children(recursive=True)
        assert {int(pid) for pid, _, _ in lines} <= {process.pid for process in family}
        assert {tuple(rest) for _, *rest in lines} == {("1", "False")}
        try:
            end(stage)
            assert stage.wait(LIMIT_S) == code
        finally:
            stage.kill()  # else a stage that does not end would hold this test for ever
    _, alive = psutil.wait_procs(family, timeout=LIMIT_S)
    assert alive == []
