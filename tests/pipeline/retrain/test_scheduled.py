"""A real schedule with a real server, while images arrive."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.bundle import champion
from pipeline.retrain import records
from tests.pipeline.retrain.conftest import Retrain, copy_of, drop
from tests.pipeline.retrain.toy import git

pytestmark = pytest.mark.long

DEADLINE_S = 600


@contextmanager
def scheduler(
    project: Path, environment: dict[str, str], log: Path, *arguments: str
) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "pipeline", "retrain", *arguments]
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=project, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def wait_until(process: subprocess.Popen[bytes], log: Path, condition: Callable[[], bool]) -> None:
    """Wait until a condition holds, while the scheduler keeps running."""
    until = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < until, log.read_text()
        try:
            code = process.wait(0.5)
        except subprocess.TimeoutExpired:
            continue
        raise AssertionError(f"the scheduler ended with {code}: {log.read_text()}")


def results(project: Path) -> list[str]:
    return [run["result"] for run in records.history(project)]


def flow_runs(api: str) -> list[dict[str, Any]]:
    found = httpx.post(f"{api}/flow_runs/filter", json={"flows": {"name": {"any_": ["burnish-retrain"]}}}, timeout=60)
    runs: list[dict[str, Any]] = found.raise_for_status().json()
    return runs


def test_three_runs_of_a_schedule(served: Path, tmp_path: Path, environment: dict[str, str], retrain: Retrain) -> None:
    project, log = copy_of(served, tmp_path / "project"), tmp_path / "log.txt"
    before = git(project, "rev-parse", "HEAD"), git(project, "status", "--short")
    drop(project, 8)
    with scheduler(project, environment, log, "--every", "5s") as process:
        wait_until(process, log, lambda: "promoted" in results(project)[1:])
        assert champion.current_version(project) == "v0.2.0"
        drop(project, 30, level=122, seed=7000)
        wait_until(process, log, lambda: "held" in results(project))
        count = len(results(project))
        wait_until(process, log, lambda: len(results(project)) > count)
        second = retrain(project, "retrain", "--every", "5s")
        assert second.returncode == 1
        assert "already runs scheduled retraining" in second.stderr
        address = re.search(r"runs: (http://127\.0\.0\.1:\d+);", log.read_text())
        assert address is not None
        ended = [run["state"]["message"] for run in flow_runs(f"{address[1]}/api") if run["state_type"] == "COMPLETED"]
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE_S) == 0, log.read_text()
    ours = results(project)[1:]  # without the first champion
    assert ours[:2] in (["promoted", "held"], ["promoted", "nothing new"]), ours
    assert ours.count("promoted") == ours.count("held") == 1
    assert ours[-1] == "nothing new"
    assert {"promoted", "held", "nothing new"} <= {message.partition(":")[0] for message in ended}
    assert champion.current_version(project) == "v0.2.0"
    assert before == (git(project, "rev-parse", "HEAD"), git(project, "status", "--short"))


def test_a_missing_server_is_reported_at_once(project: Path, retrain: Retrain) -> None:
    done = retrain(project, "retrain", "--every", "1h", PREFECT_API_URL="http://127.0.0.1:1/api")
    assert done.returncode == 1
    assert "no Prefect server answers there" in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_invalid_cron_line_is_reported(project: Path, retrain: Retrain) -> None:
    done = retrain(project, "retrain", "--cron", "whenever")
    assert done.returncode == 1
    assert "--cron 'whenever' is not a cron line" in done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
