"""`burnish ui`: serves the web page of the project's Prefect server until Ctrl-C."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from pipeline.orchestration.logs import last_line
from pipeline.orchestration.processes import ProcessGroup
from pipeline.orchestration.server import prefect_server, project_server
from pipeline.orchestration.server_discovery import configured_server, running_server
from pipeline.orchestration.server_process import LOG_NAME, LOOPBACK
from pipeline.orchestration.server_settings import configure_prefect, prefect_home_in_use
from pipeline.project import exit_codes
from stages.types import UserError

DEFAULT_PORT = 4200
"""The default port of Prefect."""


def run_ui(root: Path, host: str = LOOPBACK, port: int = DEFAULT_PORT, open_page: bool = False) -> int:
    """Serve the page until SIGINT or SIGTERM. If a server of this project runs already, only print its address.

    Args:
        root: root of the project.
        host: address to listen on. Everybody who can reach it can see and change everything: there is no password.
        port: port to listen on. 0: any free port.
        open_page: whether to open the page in the user's browser.

    Returns:
        The exit code. It is 0 if a signal ended the server, because that is how a user ends it.

    Raises:
        UserError: the port is in use, or the server does not start, or it ended by itself.
    """
    configure_prefect(root)
    if api := configured_server():
        _print_page(f"{api.rstrip('/').removesuffix('/api')}  (of PREFECT_API_URL)", api, open_page)
        return exit_codes.OK
    folder = prefect_home_in_use()
    log = folder / LOG_NAME
    stop = threading.Event()
    started: list[ProcessGroup] = []
    with _end_on_signals(stop, started):
        if not running_server(folder):
            _check_port_is_free(host, port)
            print(f"starting Prefect's server; its log: {log}", flush=True)
        with project_server(root, stop, "burnish ui", host, port) as (server, group):
            if stop.is_set():
                return exit_codes.OK
            if group is None:
                owner = f"of `{server.command}`, process {server.pid}, until it ends"
                _print_page(f"{server.page}  ({owner})", server.page, open_page)
                return exit_codes.OK
            started.append(group)
            if host != LOOPBACK:
                print(f"anyone who reaches {host}:{port} can see and change the runs: there is no password", flush=True)
            _print_page(f"{server.page}  (Ctrl-C ends it)", server.page, open_page)
            code = group.wait()
            if not stop.is_set():
                raise UserError(f"Prefect's server ended by itself (exit code {code}): {last_line(log)} (log: {log})")
    print("stopped", flush=True)
    return exit_codes.OK


@contextlib.contextmanager
def live_server(root: Path, command: str = "burnish retrain") -> Iterator[str]:
    """A server for a long-lived process and for all processes that it starts. Call `configure_prefect` first.

    It is the server of Prefect's settings, else the running server of the project, else one that we start and that
    ends with the block.

    Args:
        root: root of the project.
        command: our own command, which other commands of the project see in server.json.

    Yields:
        The URL of the web page.

    Raises:
        UserError: the server does not start, or the server of the settings does not answer.
    """
    old_api = os.environ.get("PREFECT_API_URL")
    with prefect_server(root, threading.Event(), command, _default_or_free_port()) as api:
        os.environ["PREFECT_API_URL"] = api  # child processes know the server only from the environment
        try:
            yield api.rstrip("/").removesuffix("/api")
        finally:
            del os.environ["PREFECT_API_URL"]
            if old_api is not None:
                os.environ["PREFECT_API_URL"] = old_api


def _default_or_free_port() -> int:
    """The default port if it is free, else 0 (any free port)."""
    try:
        _check_port_is_free(LOOPBACK, DEFAULT_PORT)
    except UserError:
        return 0
    return DEFAULT_PORT


def _print_page(text: str, url: str, open_page: bool) -> None:
    print(f"page: {text}", flush=True)
    if open_page:
        import webbrowser

        webbrowser.open(url)


@contextlib.contextmanager
def _end_on_signals(stop: threading.Event, groups: list[ProcessGroup]) -> Iterator[None]:
    """Inside the block, SIGINT and SIGTERM set `stop` and ask the groups to end; a second signal kills them."""

    def end(number: int, frame: FrameType | None) -> None:
        is_second = stop.is_set()
        stop.set()
        for group in groups:
            group.stop(now=is_second)

    old_handlers = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in old_handlers.items():
            signal.signal(number, handler)


def _check_port_is_free(host: str, port: int) -> None:
    """Check that a server could listen on a port.

    Raises:
        UserError: it could not; the message says what to do.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
            probe.bind(address)
    except socket.gaierror as error:
        raise UserError(f"--host {host}: {error.strerror or error}: name an address of this machine") from error
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            raise UserError(f"--host {host} is no address of this machine: use {LOOPBACK}") from error
        raise UserError(
            f"port {port} of {host} cannot be used ({error.strerror}): choose another, for example --port {port + 1}"
        ) from error
