"""Prefect inside the project: quiet, without telemetry, and with a server that ends with the run.

Prefect's own temporary server writes its tracebacks to our terminal, gets the terminal's Ctrl-C before the flow has
told it how the run ended, and registers all its block types at each start (12 s in place of 6). So we start the same
server ourselves: under the supervisor, its output in .prefect/server.log.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.processes import Group, lines, tail
from pipeline.project import command_environment
from stages.types import UserError

SETTINGS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",
    "PREFECT_CLI_PROMPT": "false",
}
START_TIMEOUT_S = 120.0


def home(root: Path) -> Path:
    """Where Prefect keeps its settings, its database and its server's log."""
    return root / ".prefect"


def configure(root: Path) -> None:
    """Set Prefect's environment; before prefect is imported, which reads it then. What the user set stays."""
    os.environ.setdefault("PREFECT_HOME", str(home(root)))
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)


def answers(api: str, timeout_s: float = 2.0) -> bool:
    """Whether a Prefect server answers at this address (`http://host:port/api`)."""
    try:
        with urllib.request.urlopen(f"{api.rstrip('/')}/health", timeout=timeout_s) as reply:
            return reply.status == 200 and json.load(reply) is True
    except (OSError, ValueError):
        return False


@contextmanager
def prefect_server(root: Path, stop: threading.Event) -> Iterator[None]:
    """Prefect with a server that answers: the one that its settings name (`PREFECT_API_URL`), else a temporary one.

    Raises:
        UserError: the named server does not answer, or the temporary one does not start.
    """
    from prefect.settings import PREFECT_API_URL, temporary_settings

    named = PREFECT_API_URL.value()
    if named:
        if not answers(named, timeout_s=10.0):
            raise UserError(f"PREFECT_API_URL is {named}, but no Prefect server answers there: start it, or unset it")
        yield
        return
    folder = Path(os.environ["PREFECT_HOME"])
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "server.log"
    with log.open("wb") as output:
        port = _free_port()
        server = Group(_command(port), output, root, command_environment() | {"PREFECT_UI_ENABLED": "0"})
    try:
        api = f"http://127.0.0.1:{port}/api"
        _wait_for(api, server, log, stop)
        with temporary_settings({PREFECT_API_URL: api}):
            yield
            _send_events()
    finally:
        server.stop()
        server.wait()


def _command(port: int) -> list[str]:
    """The command by which Prefect starts its temporary server (prefect.server.api.server.SubprocessASGIServer)."""
    command = [sys.executable, "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app"]
    return [*command, "--host", "127.0.0.1", "--port", str(port), "--log-level", "error", "--lifespan", "on"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(api: str, server: Group, log: Path, stop: threading.Event) -> None:
    until = time.monotonic() + START_TIMEOUT_S
    while not answers(api):
        if stop.is_set():
            return
        if not server.running():
            last = (lines(tail(log)) or ["it said nothing"])[-1]
            raise UserError(f"Prefect's server did not start: {last.strip()} (log: {log})")
        if time.monotonic() > until:
            raise UserError(f"Prefect's server did not answer within {START_TIMEOUT_S:.0f} s (log: {log})")
        time.sleep(0.1)  # not stop.wait(): a signal handler that sets the event in this thread could then hang


def _send_events() -> None:
    """Send what Prefect still has to tell the server, states of task runs among it."""
    from prefect.events.worker import EventsWorker

    EventsWorker.drain_all(timeout=10)
