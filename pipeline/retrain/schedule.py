"""Retraining on a schedule: one long-lived process serves a Prefect deployment."""

from __future__ import annotations

import asyncio
import difflib
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pipeline.orchestration.server_discovery import answers
from pipeline.orchestration.server_process import LOG_NAME
from pipeline.orchestration.server_settings import configure_prefect, prefect_home_in_use
from pipeline.project import paths
from pipeline.project.params import load_params
from pipeline.project.process_lock import process_lock
from stages.types import UserError

NAME = "schedule"
"""Name of the deployment. Prefect lists it as `burnish-retrain/schedule`."""
PATIENCE_S = 60
"""How long the server may be unreachable, in seconds. Prefect also waits for it."""
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_interval(text: str) -> timedelta:
    """Parse an interval such as `30m`, `90s`, `2h` or `1d`.

    Raises:
        UserError: the text is not such an interval.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd])", text.strip())
    if not match or float(match[1]) <= 0:
        raise UserError(f"--every {text!r}: write a number and s, m, h or d, for example 30m")
    return timedelta(seconds=float(match[1]) * UNITS[match[2]])


def time_zone(name: str | None) -> ZoneInfo:
    """The time zone of cron lines: the one that is named, else that of this machine.

    Raises:
        UserError: there is no such zone, or this machine does not say which is its own.
    """
    if name is None:
        import tzlocal

        try:
            name = tzlocal.get_localzone_name()
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError, TypeError) as fault:
            raise UserError(
                "this machine does not name its time zone: give it, for example with --timezone Europe/Berlin"
            ) from fault
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as fault:
        near = difflib.get_close_matches(name, sorted(available_timezones()), n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "write a name such as Europe/Berlin or Asia/Tokyo"
        raise UserError(f"--timezone {name!r} is not a time zone: {hint}") from fault


def next_times(cron: str, zone: ZoneInfo, after: datetime, count: int = 1) -> list[datetime]:
    """The next times of a cron line, as Prefect computes them, in the time zone.

    Raises:
        UserError: the cron line is not valid.
    """
    from prefect.server.schemas.schedules import CronSchedule

    try:
        schedule = CronSchedule(cron=cron, timezone=zone.key)
    except ValueError as fault:
        raise UserError(f"--cron {cron!r} is not a cron line: write five fields, for example '0 2 * * *'") from fault
    times = asyncio.run(schedule.get_dates(n=count, start=after))
    return [time.astimezone(zone) for time in times]


def serve(root: Path, every: timedelta | None, cron: str | None, timezone: str | None = None) -> None:
    """Retrain repeatedly until a signal ends this process.

    Args:
        root: of the project.
        every: time between two runs; None: use `cron`.
        cron: a line with five fields; None: use `every`.
        timezone: name of the time zone of the cron line; None: that of this machine.

    Raises:
        UserError: another process runs scheduled retraining of this project, the schedule or a setting is not valid, or
            the server became unreachable.
    """
    load_params()
    with exclusive_scheduler(root):
        configure_prefect(root)
        zone = time_zone(timezone) if cron else None
        first = next_times(cron, zone, datetime.now(UTC))[0] if cron and zone else None
        from pipeline.orchestration.ui import live_server

        with live_server(root) as page, _watch_server(os.environ["PREFECT_API_URL"]) as unreachable:
            when = (
                f"every {every.total_seconds():g} s"
                if every
                else f"at {cron!r} in {zone}, next on {first:%A %Y-%m-%d %H:%M %Z}"
            )
            print(f"retraining {when}; runs: {page}; Ctrl-C ends it", flush=True)
            _serve(every, cron, zone)
        if unreachable.is_set():
            raise UserError(
                f"Prefect's server at {page} has not answered for {PATIENCE_S} s, so scheduled retraining ended; see "
                f"its log {prefect_home_in_use() / LOG_NAME}, then start again"
            )


def exclusive_scheduler(root: Path) -> AbstractContextManager[None]:
    """Allow one scheduler per project.

    Raises:
        UserError: another process runs scheduled retraining of this project.
    """

    def when_held(holder: str) -> UserError:
        return UserError(f"another process ({holder}) already runs scheduled retraining of {root}: end it first")

    return process_lock(root / paths.RETRAIN / "scheduler.lock", when_held)


@contextmanager
def _watch_server(api: str) -> Iterator[threading.Event]:
    """Check regularly whether the server answers. If it does not for PATIENCE_S, set the event and end the process.

    Args:
        api: address of the server's API.
    """
    unreachable, done = threading.Event(), threading.Event()

    def watch() -> None:
        last_answer = time.monotonic()
        while not done.wait(PATIENCE_S / 12):
            if answers(api):
                last_answer = time.monotonic()
            elif time.monotonic() - last_answer > PATIENCE_S:
                unreachable.set()
                os.kill(os.getpid(), signal.SIGTERM)
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield unreachable
    finally:
        done.set()
        thread.join()


def _serve(every: timedelta | None, cron: str | None, zone: ZoneInfo | None) -> None:
    from prefect.client.schemas.objects import ConcurrencyLimitConfig
    from prefect.schedules import Cron, Interval
    from prefect.types.entrypoint import EntrypointType

    from pipeline.retrain.flow import retrain_flow

    _delete_missed(f"{retrain_flow.name}/{NAME}")
    retrain_flow.serve(
        name=NAME,
        schedule=Cron(cron, timezone=zone.key) if cron and zone else Interval(every or timedelta()),
        limit=1,
        global_limit=ConcurrencyLimitConfig(limit=1, collision_strategy="CANCEL_NEW"),
        entrypoint_type=EntrypointType.MODULE_PATH,
        print_starting_message=False,
    )


def _delete_missed(deployment: str) -> None:
    """Of the runs that were due while no scheduler ran, keep only the latest."""
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
        missed = [
            run
            for run in client.read_flow_runs(
                deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=[deployment.partition("/")[2]])),
                flow_run_filter=FlowRunFilter(
                    state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED]))
                ),
            )
            if run.expected_start_time and run.expected_start_time < datetime.now(UTC)
        ]
        for run in sorted(missed, key=lambda run: run.expected_start_time or datetime.now(UTC))[:-1]:
            client.delete_flow_run(run.id)
