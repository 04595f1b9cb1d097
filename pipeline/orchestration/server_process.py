"""A Prefect server as a process of its own, under the supervisor, with its output in .prefect/server.log.

Prefect could start a temporary server itself. We do not use it, for three reasons: it writes its tracebacks to our
terminal, it gets the Ctrl-C of the terminal before the flow has reported how the run ended, and it registers all its
block types at each start, which then takes 12 s instead of 6 s.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from pipeline.orchestration.logs import last_line
from pipeline.orchestration.processes import ProcessGroup
from pipeline.orchestration.server_discovery import ADDRESS_NAME, Server, answers, write_address
from pipeline.orchestration.server_settings import CONTENT_SECURITY_POLICY, PAGE_SETTINGS
from pipeline.project.root import command_environment
from stages.types import UserError

LOOPBACK = "127.0.0.1"
START_TIMEOUT_S = 120.0
LOG_NAME = "server.log"
"""Name of the log in the Prefect home."""


@contextmanager
def server_process(
    root: Path, folder: Path, stop: threading.Event, command: str, host: str, port: int
) -> Iterator[tuple[Server, ProcessGroup]]:
    """Start a server, write its address to server.json, and end it when the block ends.

    Args:
        root: root of the project.
        folder: the Prefect home. The caller holds the lock in it.
        stop: do not wait for the server any longer once this is set.
        command: our own command, which server.json tells other processes.
        host: address on which the server listens.
        port: port on which it listens. 0: any free port.

    Raises:
        UserError: the server does not start.
    """
    address, log = folder / ADDRESS_NAME, folder / LOG_NAME
    address.unlink(missing_ok=True)  # left by a process that was killed
    port = port or free_port()
    local_host = LOOPBACK if host == "0.0.0.0" else f"[{host}]" if ":" in host else host
    server = Server(f"http://{local_host}:{port}/api", os.getpid(), command)
    # Web pages of other origins in the user's browser must not call the API.
    settings = {**PAGE_SETTINGS, "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": server.page, **_static_files(folder)}
    with log.open("wb") as output:
        group = ProcessGroup(server_command(port, host), output, root, {**settings, **command_environment()})
    try:
        _wait_until_it_answers(server.api, group, log, stop)
        write_address(folder, server)
        yield server, group
    finally:
        address.unlink(missing_ok=True)
        group.stop()
        group.wait()


def server_command(port: int, host: str = LOOPBACK) -> list[str]:
    """The command by which Prefect starts its temporary server (prefect.server.api.server.SubprocessASGIServer)."""
    command = [sys.executable, "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app"]
    command += ["--host", host, "--port", str(port), "--log-level", "error", "--lifespan", "on"]
    return [*command, "--header", f"Content-Security-Policy:{CONTENT_SECURITY_POLICY}"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _static_files(folder: Path) -> dict[str, str]:
    """The setting of the folder into which Prefect copies the files of its page before it serves them.

    The default is a folder beside Prefect's code. If that is not writable, it is a folder in the Prefect home.
    """
    spec = find_spec("prefect")
    code = Path((spec.origin if spec else None) or "").parent / "server"
    return {} if os.access(code, os.W_OK) else {"PREFECT_UI_STATIC_DIRECTORY": str(folder / "page")}


def _wait_until_it_answers(api: str, server: ProcessGroup, log: Path, stop: threading.Event) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not answers(api):
        if stop.is_set():
            return
        if not server.running():
            raise UserError(f"Prefect's server did not start: {last_line(log)} (log: {log})")
        if time.monotonic() > deadline:
            raise UserError(f"Prefect's server did not answer within {START_TIMEOUT_S:.0f} s (log: {log})")
        time.sleep(0.1)  # not stop.wait(): a signal handler that sets the event in this thread could hang
