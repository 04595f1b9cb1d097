"""Prefect inside the project: quiet, without telemetry, and with one server at a time.

Prefect's own temporary server writes its tracebacks to our terminal, gets the terminal's Ctrl-C before the flow has
told it how the run ended, and registers all its block types at each start (12 s in place of 6). So we start the same
server ourselves: under the supervisor, its output in .prefect/server.log.

Two servers must not share one SQLite file. Whoever starts one holds .prefect/server.lock, and says in
.prefect/server.json where it is; all other commands of the project use that one. The lock goes with the process, so a
file that kill -9 left behind is known as such.
"""

from __future__ import annotations

import fcntl
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
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from pipeline.orchestration.processes import Group, lines, tail
from pipeline.project.root import command_environment
from stages.types import UserError

SETTINGS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_INTERNAL_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",
    "PREFECT_CLI_PROMPT": "false",
    "PREFECT_CLIENT_MAX_RETRIES": "3",  # 14 s; Prefect's own 5 are 62 s at each call once the server is gone
}
PAGE = {
    "PREFECT_UI_ENABLED": "true",
    "PREFECT_UI_API_URL": "/api",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
}
"""Settings of a server that has the web page. The page asks where it came from, whatever name that host goes by."""
ONLY_OURS = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; frame-ancestors 'none'"
)
"""What the page may load (Content-Security-Policy). Prefect's page calls a tracking service as it opens, even where
analytics are off; the browser then refuses. Its graphs need 'unsafe-eval'."""
LOOPBACK = "127.0.0.1"
START_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Server:
    """A running server of this project."""

    api: str
    """`http://host:port/api`, as seen from this machine; empty where there is none because we were told to stop."""
    pid: int
    """The process that holds it."""
    command: str
    """What that process is: `burnish run`, `burnish ui`, ..."""

    @property
    def page(self) -> str:
        """Address of its web page."""
        return self.api.removesuffix("/api")


def home(root: Path) -> Path:
    """Where Prefect keeps its settings, its database and its server's log."""
    return root / ".prefect"


def home_in_use() -> Path:
    """The same after `configure`: the project's, or the one that the user chose (`PREFECT_HOME`)."""
    return Path(os.environ["PREFECT_HOME"])


def configure(root: Path) -> None:
    """Set Prefect's environment; before prefect is imported, which reads it then. What the user set stays."""
    os.environ.setdefault("PREFECT_HOME", str(home(root.resolve())))
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)


def answers(api: str, timeout_s: float = 2.0) -> bool:
    """Whether a Prefect server answers at this address (`http://host:port/api`)."""
    try:
        with urllib.request.urlopen(f"{api.rstrip('/')}/health", timeout=timeout_s) as reply:
            return reply.status == 200 and json.load(reply) is True
    except (OSError, ValueError):
        return False


def named_server() -> str | None:
    """The address that Prefect's settings name (`PREFECT_API_URL`).

    Raises:
        UserError: no server answers there.
    """
    from prefect.settings import PREFECT_API_URL

    named = PREFECT_API_URL.value()
    if named and not answers(named, timeout_s=10.0):
        raise UserError(f"PREFECT_API_URL is {named}, but no Prefect server answers there: start it, or unset it")
    return named or None


@contextmanager
def prefect_server(root: Path, stop: threading.Event, command: str = "burnish run", port: int = 0) -> Iterator[str]:
    """Prefect with a server that answers: the one that its settings name, else the project's; `configure` first.

    Yields its address; empty where `stop` was set meanwhile.

    Raises:
        UserError: the named server does not answer, or the project's does not start.
    """
    from prefect.settings import PREFECT_API_URL, temporary_settings

    if named := named_server():
        yield named
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
) -> Iterator[tuple[Server, Group | None]]:
    """The project's server: the one that runs, else one of our own until we leave; `configure` first.

    Args:
        root: the project.
        stop: set to give up while a server starts.
        command: what we are, for the other commands of the project.
        host: where a server of our own listens.
        port: likewise; 0: any that is free.

    Yields:
        the server, and its processes if it is our own; one with an empty address where `stop` was set meanwhile.

    Raises:
        UserError: it does not start.
    """
    folder = home_in_use()
    folder.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + START_TIMEOUT_S
    with (folder / "server.lock").open("a") as lock:
        while not _take(lock):
            if found := running_server(folder):
                yield found, None
                return
            if stop.is_set():
                yield Server("", 0, ""), None
                return
            if time.monotonic() > until:
                raise UserError(f"another command of {root} holds {lock.name}, but its Prefect server does not answer")
            time.sleep(0.1)
        with _own_server(root, folder, stop, command, host, port) as own:
            yield own


def running_server(folder: Path) -> Server | None:
    """The server that server.json names, if the process that wrote it lives, and it answers."""
    try:
        with (folder / "server.lock").open("r") as lock:
            if _take(lock, fcntl.LOCK_SH):
                return None
        found = Server(**json.loads((folder / "server.json").read_text("utf-8")))
        return found if answers(found.api) else None
    except (OSError, ValueError, TypeError):
        return None


def _take(lock: IO[str], kind: int = fcntl.LOCK_EX) -> bool:
    """Whether we now hold the lock; it is let go when the file is closed."""
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _own_server(
    root: Path, folder: Path, stop: threading.Event, command: str, host: str, port: int
) -> Iterator[tuple[Server, Group]]:
    """Start a server, name it in server.json while it runs, and end it."""
    named, log = folder / "server.json", folder / "server.log"
    named.unlink(missing_ok=True)  # it is of a process that was killed
    port = port or _free_port()
    near = LOOPBACK if host == "0.0.0.0" else f"[{host}]" if ":" in host else host
    server = Server(f"http://{near}:{port}/api", os.getpid(), command)
    # Other sites that the user's browser shows may not ask our API.
    settings = {**PAGE, "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": server.page, **_static_files(folder)}
    with log.open("wb") as output:
        group = Group(_command(port, host), output, root, {**settings, **command_environment()})
    try:
        _wait_for(server.api, group, log, stop)
        _write(named, server)
        yield server, group
    finally:
        named.unlink(missing_ok=True)
        group.stop()
        group.wait()


def _write(path: Path, server: Server) -> None:
    """Whole or not at all: others may be reading."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(asdict(server)) + "\n", "utf-8")
    part.replace(path)


def _static_files(folder: Path) -> dict[str, str]:
    """Where Prefect puts the page's files before it serves them: beside its code, unless that cannot be written."""
    spec = find_spec("prefect")
    code = Path((spec.origin if spec else None) or "").parent / "server"
    return {} if os.access(code, os.W_OK) else {"PREFECT_UI_STATIC_DIRECTORY": str(folder / "page")}


def _command(port: int, host: str = LOOPBACK) -> list[str]:
    """The command by which Prefect starts its temporary server (prefect.server.api.server.SubprocessASGIServer)."""
    command = [sys.executable, "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app"]
    command += ["--host", host, "--port", str(port), "--log-level", "error", "--lifespan", "on"]
    return [*command, "--header", f"Content-Security-Policy:{ONLY_OURS}"]


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
