"""The Prefect server that a command uses: one that its settings name, one that runs already, or one that it starts."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.orchestration.processes import ProcessGroup
from pipeline.orchestration.server_discovery import LOCK_NAME, Server, configured_server, running_server, take_lock
from pipeline.orchestration.server_process import LOOPBACK, START_TIMEOUT_S, server_process
from pipeline.orchestration.server_settings import prefect_home_in_use
from stages.types import UserError


@contextmanager
def prefect_server(root: Path, stop: threading.Event, command: str = "burnish run", port: int = 0) -> Iterator[str]:
    """Let Prefect use the server of its settings, else that of the project. Call `configure_prefect` first.

    Args:
        root: root of the project.
        stop: stop waiting for a server once this is set.
        command: our own command, which other commands of the project see in server.json.
        port: port of a server that we start. 0: any free port.

    Yields:
        The address of the server (`http://host:port/api`). Empty if `stop` was set before a server answered.

    Raises:
        UserError: the server of the settings does not answer, or the server of the project does not start.
    """
    from prefect.settings import PREFECT_API_URL, temporary_settings

    if api := configured_server():
        yield api
        return
    with (
        project_server(root, stop, command, port=port) as (server, _),
        temporary_settings({PREFECT_API_URL: server.api or None}),
    ):
        yield server.api
        _send_events()


@contextmanager
def project_server(
    root: Path, stop: threading.Event, command: str, host: str = LOOPBACK, port: int = 0
) -> Iterator[tuple[Server, ProcessGroup | None]]:
    """The server of the project: the running one, else one that we start and end with the block.

    Call `configure_prefect` first.

    Args:
        root: root of the project.
        stop: stop waiting for a server once this is set.
        command: our own command, which other commands of the project see in server.json.
        host: address on which a server that we start listens.
        port: port on which it listens. 0: any free port.

    Yields:
        The server, and its processes if we started it. The address of the server is empty if `stop` was set before a
        server answered.

    Raises:
        UserError: the server does not start.
    """
    folder = prefect_home_in_use()
    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + START_TIMEOUT_S
    with (folder / LOCK_NAME).open("a") as lock:
        while not take_lock(lock):
            if server := running_server(folder):
                yield server, None
                return
            if stop.is_set():
                yield Server("", 0, ""), None
                return
            if time.monotonic() > deadline:
                raise UserError(f"another command of {root} holds {lock.name}, but its Prefect server does not answer")
            time.sleep(0.1)
        with server_process(root, folder, stop, command, host, port) as started:
            yield started


def _send_events() -> None:
    """Send the events that Prefect has not sent to the server yet, among them the states of task runs."""
    from prefect.events.worker import EventsWorker

    EventsWorker.drain_all(timeout=10)
