"""Finds the Prefect server of a project.

Two servers must not use the same SQLite file. So a process that starts a server holds the lock .prefect/server.lock and
writes the address to .prefect/server.json, and all other commands of the project use that server. The operating system
releases the lock when the process ends, so a server.json that kill -9 left behind is recognized as out of date.
"""

from __future__ import annotations

import base64
import fcntl
import http.client
import json
import os
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from pipeline.project.proxies import opener_for
from stages.types import UserError

LOCK_NAME, ADDRESS_NAME = "server.lock", "server.json"
"""Names of the files in the Prefect home."""


@dataclass(frozen=True)
class Server:
    """A Prefect server of this project that runs."""

    api: str
    """`http://host:port/api`, as seen from this machine. Empty: no server, because the caller was asked to stop."""
    pid: int
    """Id of the process that started the server and ends it."""
    command: str
    """The command of that process: `burnish run`, `burnish ui`, ..."""

    @property
    def page(self) -> str:
        """The URL of the web page."""
        return self.api.removesuffix("/api")


def answers(api: str, timeout_s: float = 2.0) -> bool:
    """Whether a Prefect server answers at an address (`http://host:port/api`)."""
    try:
        with opener_for(api).open(f"{api.rstrip('/')}/health", timeout=timeout_s) as reply:
            return reply.status == 200 and json.loads(reply.read(100)) is True
    except (OSError, ValueError, http.client.HTTPException):
        return False


def refusal(api: str, timeout_s: float = 10.0) -> str | None:
    """Why a server that answers does not let us use it, and what to do; None if it does.

    A server tells everybody that it is healthy, also those who have no right to use it.
    """
    request = urllib.request.Request(f"{api.rstrip('/')}/admin/version")
    if login := os.environ.get("PREFECT_API_AUTH_STRING"):
        request.add_header("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")
    elif key := os.environ.get("PREFECT_API_KEY"):
        request.add_header("Authorization", f"Bearer {key}")
    try:
        with opener_for(api).open(request, timeout=timeout_s):
            return None
    except urllib.error.HTTPError as error:
        if error.code not in (401, 403):
            return None
        given = "does not accept PREFECT_API_AUTH_STRING" if login else "wants a password"
        return f"it {given}: set PREFECT_API_AUTH_STRING to USER:PASSWORD of that server, or unset PREFECT_API_URL"
    except (OSError, http.client.HTTPException):
        return None


def configured_server() -> str | None:
    """The address that Prefect's settings name (`PREFECT_API_URL`), or None.

    Raises:
        UserError: no server answers at this address, or it does not let us use it.
    """
    from prefect.settings import PREFECT_API_URL

    api = PREFECT_API_URL.value()
    if api and not answers(api, timeout_s=10.0):
        raise UserError(f"PREFECT_API_URL is {api}, but no Prefect server answers there: start it, or unset it")
    if api and (why := refusal(api)):
        raise UserError(f"PREFECT_API_URL is {api}, but {why}")
    return api or None


def running_server(folder: Path) -> Server | None:
    """The server that server.json names, if the process that wrote it still runs and the server answers.

    Args:
        folder: the Prefect home.
    """
    try:
        with (folder / LOCK_NAME).open("r") as lock:
            if take_lock(lock, fcntl.LOCK_SH):
                return None
        server = Server(**json.loads((folder / ADDRESS_NAME).read_text("utf-8")))
        return server if answers(server.api) else None
    except (OSError, ValueError, TypeError):
        return None


def take_lock(lock: IO[str], kind: int = fcntl.LOCK_EX) -> bool:
    """Try to take a lock, and return whether that succeeded. Closing the file releases the lock."""
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def write_address(folder: Path, server: Server) -> None:
    """Write server.json by one rename, because other processes may read it at any time."""
    path = folder / ADDRESS_NAME
    part = path.with_suffix(".part")
    part.write_text(json.dumps(asdict(server)) + "\n", "utf-8")
    part.replace(path)
