"""Retraining on a schedule: a Prefect deployment, served by one long-lived process."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pipeline.orchestration import server
from pipeline.project import paths
from pipeline.project.params import load_params
from stages.types import UserError

NAME = "schedule"
"""Of the deployment: Prefect lists it as `burnish-retrain/schedule`."""
PATIENCE_S = 60
"""How long the server may be away; Prefect waits for it as well."""
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_interval(text: str) -> timedelta:
    """`30m`, `90s`, `2h`, `1d`.

    Raises:
        UserError: anything else.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd])", text.strip())
    if not found or float(found[1]) <= 0:
        raise UserError(f"--every {text!r}: write a number and s, m, h or d, as in 30m")
    return timedelta(seconds=float(found[1]) * UNITS[found[2]])


def serve(root: Path, every: timedelta | None, cron: str | None) -> None:
    """Retrain again and again until a signal ends this process.

    Raises:
        UserError: another scheduler serves this project, or the schedule or the settings are at fault.
    """
    load_params()
    with only_scheduler(root):
        server.configure(root)
        _check_cron(cron)
        from pipeline.orchestration.ui import live_server

        with live_server(root) as page, _watched(os.environ["PREFECT_API_URL"]) as lost:
            when = f"every {every.total_seconds():g} s" if every else f"at {cron!r}"
            print(f"retraining {when}; runs: {page}; Ctrl-C ends it", flush=True)
            _serve(every, cron)
        if lost.is_set():
            raise UserError(
                f"Prefect's server at {page} has not answered for {PATIENCE_S} s, so no schedule is served any more; "
                f"its log: {server.home_in_use() / 'server.log'}; start again"
            )


def _check_cron(cron: str | None) -> None:
    if cron is None:
        return
    from prefect.client.schemas.schedules import CronSchedule

    try:
        CronSchedule(cron=cron)
    except ValueError as fault:
        raise UserError(f"--cron {cron!r} is no cron line: write five fields, as in '0 2 * * *'") from fault


@contextmanager
def only_scheduler(root: Path) -> Iterator[None]:
    """Raises UserError: another process serves a schedule of this project."""
    path = root / paths.RETRAIN / "scheduler.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another process serves retraining of {root} already: end that one first") from None
        yield


@contextmanager
def _watched(api: str) -> Iterator[threading.Event]:
    """While we serve, ask the server whether it lives; the event is set, and serving ends, when it is gone."""
    lost, done = threading.Event(), threading.Event()

    def watch() -> None:
        heard = time.monotonic()
        while not done.wait(PATIENCE_S / 12):
            if server.answers(api):
                heard = time.monotonic()
            elif time.monotonic() - heard > PATIENCE_S:
                lost.set()
                os.kill(os.getpid(), signal.SIGTERM)
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield lost
    finally:
        done.set()
        thread.join()


def _serve(every: timedelta | None, cron: str | None) -> None:
    from prefect.client.schemas.objects import ConcurrencyLimitConfig
    from prefect.types.entrypoint import EntrypointType

    from pipeline.retrain.flow import retrain_flow

    _drop_missed(f"{retrain_flow.name}/{NAME}")
    retrain_flow.serve(
        name=NAME,
        interval=every,
        cron=cron,
        limit=1,
        global_limit=ConcurrencyLimitConfig(limit=1, collision_strategy="CANCEL_NEW"),
        entrypoint_type=EntrypointType.MODULE_PATH,
        print_starting_message=False,
    )


def _drop_missed(deployment: str) -> None:
    """Of the runs that were due while nobody served them, keep the latest."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import (
        DeploymentFilter,
        DeploymentFilterName,
        FlowRunFilter,
        FlowRunFilterState,
        FlowRunFilterStateType,
    )
    from prefect.client.schemas.objects import StateType

    with get_client(sync_client=True) as client:
        late = [
            run
            for run in client.read_flow_runs(
                deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=[deployment.partition("/")[2]])),
                flow_run_filter=FlowRunFilter(
                    state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED]))
                ),
            )
            if run.expected_start_time and run.expected_start_time < datetime.now(UTC)
        ]
        for run in sorted(late, key=lambda one: one.expected_start_time or datetime.now(UTC))[:-1]:
            client.delete_flow_run(run.id)
