"""`burnish ui`: the project's Prefect server with its web page, until Ctrl-C."""

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

from pipeline.orchestration import server
from pipeline.orchestration.processes import Group, lines, tail
from pipeline.project import exit_codes
from stages.types import UserError

PORT = 4200
"""Prefect's own."""


def run_ui(root: Path, host: str = server.LOOPBACK, port: int = PORT, open_page: bool = False) -> int:
    """Serve the page until SIGINT or SIGTERM; where a server of this project runs already, only say where.

    Args:
        root: the project's root.
        host: where to listen. Whoever reaches it can see and change everything: there is no password.
        port: where to listen; 0 is any that is free.
        open_page: whether to open it in the user's browser.

    Returns:
        exit code: 0 also where a signal ended it, as that is the way to end it.

    Raises:
        UserError: the port is taken, or the server does not start, or it ended by itself.
    """
    server.configure(root)
    if named := server.named_server():
        _show(f"{named.rstrip('/').removesuffix('/api')}  (of PREFECT_API_URL)", named, open_page)
        return exit_codes.OK
    folder = server.home_in_use()
    stop = threading.Event()
    ours: list[Group] = []
    with _signals(stop, ours):
        if not server.running_server(folder):
            _check_free(host, port)
            print(f"starting Prefect's server; its log: {folder / 'server.log'}", flush=True)
        with server.project_server(root, stop, "burnish ui", host, port) as (found, group):
            if stop.is_set():
                return exit_codes.OK
            if group is None:
                _show(
                    f"{found.page}  (of `{found.command}`, process {found.pid}, until it ends)", found.page, open_page
                )
                return exit_codes.OK
            ours.append(group)
            if host != server.LOOPBACK:
                print(f"anyone who reaches {host}:{port} can see and change the runs: there is no password", flush=True)
            _show(f"{found.page}  (Ctrl-C ends it)", found.page, open_page)
            code = group.wait()
            if not stop.is_set():
                raise UserError(_ended(code, folder / "server.log"))
    print("stopped", flush=True)
    return exit_codes.OK


@contextlib.contextmanager
def live_server(root: Path, command: str = "burnish retrain") -> Iterator[str]:
    """For a long-lived process: a server for itself and for all that it starts; `server.configure` first.

    Yields the address of its page. It is that of the settings, else the one that runs in this project, else one of
    our own, which ends with us.

    Args:
        root: the project's root.
        command: what we are, for the other commands of the project.

    Raises:
        UserError: it does not start, or the one that the settings name does not answer.
    """
    named = os.environ.get("PREFECT_API_URL")
    with server.prefect_server(root, threading.Event(), command, _port()) as api:
        os.environ["PREFECT_API_URL"] = api  # what we start has no settings of ours but these
        try:
            yield api.rstrip("/").removesuffix("/api")
        finally:
            del os.environ["PREFECT_API_URL"]
            if named is not None:
                os.environ["PREFECT_API_URL"] = named


def _port() -> int:
    """Prefect's own where it is free, else any."""
    try:
        _check_free(server.LOOPBACK, PORT)
    except UserError:
        return 0
    return PORT


def _show(words: str, page: str, open_page: bool) -> None:
    print(f"page: {words}", flush=True)
    if open_page:
        import webbrowser

        webbrowser.open(page)


def _ended(code: int, log: Path) -> str:
    last = (lines(tail(log)) or ["it said nothing"])[-1].strip()
    return f"Prefect's server ended by itself (exit code {code}): {last} (log: {log})"


@contextlib.contextmanager
def _signals(stop: threading.Event, groups: list[Group]) -> Iterator[None]:
    """While inside, SIGINT and SIGTERM end the server; a second one kills it."""

    def end(number: int, frame: FrameType | None) -> None:
        again = stop.is_set()
        stop.set()
        for group in groups:
            group.stop(now=again)

    old = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _check_free(host: str, port: int) -> None:
    """Whether we can listen there.

    Raises:
        UserError: with what to do.
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
            raise UserError(f"--host {host} is no address of this machine: take {server.LOOPBACK}") from error
        raise UserError(
            f"port {port} of {host} cannot be used ({error.strerror}): choose another, for example --port {port + 1}"
        ) from error
