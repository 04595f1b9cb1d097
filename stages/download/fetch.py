"""Download of one file, whole or not there: resumed where the server allows, bounded in size, never glued of two.

HTTP ranges as in RFC 9110, sections 13.1.5 (If-Range) and 14.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx

from stages.types import UserError

CONNECT_S, READ_S = 4.0, 60.0
"""Without a connection after the first, there is no network; a server silent for the second has failed."""
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP status codes of faults that may pass."""
WAYS_OUT = (
    "put the images into data.folder (with data.archive.url: null), or fetch the archive on another machine and set "
    "data.archive.url to its path"
)
Progress = Callable[[int, int | None], None]
"""Told bytes done, and of how many where that is known."""


@dataclass(frozen=True)
class _Begun:
    """What is known of a file whose first bytes lie in the .part file."""

    url: str
    validator: str
    """Strong ETag or else Last-Modified: the version that the bytes belong to; empty: they cannot be gone on with."""
    total: int | None


def fetch(url: str, target: Path, max_bytes: int, progress: Progress) -> None:
    """Download `url` (http, https) to `target`; what an interrupted try left beside it is gone on with.

    Raises:
        UserError: no connection within CONNECT_S, a final answer of the server (404, say), or more than `max_bytes`.
        ConnectionError: a fault that may pass; what came is kept.
    """
    part, note = target.with_name(f"{target.name}.part"), target.with_name(f"{target.name}.part.json")
    begun, have = _begun(url, note), part.stat().st_size if part.exists() else 0
    if begun is None or not begun.validator:
        have = 0
    if begun is None or have == 0 or have != begun.total:
        asked = {"Range": f"bytes={have}-", "If-Range": begun.validator} if begun is not None and have else {}
        with _answer(url, asked) as answer:
            resumed = begun is not None and _continues(answer, have, begun)
            if answer.status_code != 200 and not resumed:  # a range that is not the rest of what there is
                part.unlink(missing_ok=True)
                raise ConnectionError(f"{shown(url)} changed while it was downloaded, or its server cannot resume")
            if begun is None or not resumed:
                begun, have = _first_answer(url, answer), 0
                note.write_text(json.dumps(asdict(begun)))
            _receive(answer, part, have, begun.total, max_bytes, progress)
    part.replace(target)
    note.unlink(missing_ok=True)


def check_digest(path: Path, expected: str) -> None:
    """Raises UserError where the file's sha256 is another than the expected."""
    found = digest_of(path)
    if found != expected:
        raise UserError(f"its sha256 is {found}, data.archive.sha256 is {expected}; mend the one that is wrong")


def digest_of(path: Path) -> str:
    """sha256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _begun(url: str, note: Path) -> _Begun | None:
    try:
        begun = _Begun(**json.loads(note.read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    return begun if begun.url == url else None


def _first_answer(url: str, answer: httpx.Response) -> _Begun:
    etag, length = answer.headers.get("ETag", ""), answer.headers.get("Content-Length", "")
    validator = etag if etag.startswith('"') else answer.headers.get("Last-Modified", "")
    return _Begun(url, validator, int(length) if length.isdigit() else None)


def _continues(answer: httpx.Response, have: int, begun: _Begun) -> bool:
    """Whether the answer is the rest of the version that the first `have` bytes are of."""
    if answer.status_code != 206:
        return False
    span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
    etag = answer.headers.get("ETag", begun.validator)
    return (
        span is not None
        and int(span[1]) == have
        and (begun.total is None or span[2] in ("*", str(begun.total)))
        and (not begun.validator.startswith('"') or etag == begun.validator)
    )


def _receive(
    answer: httpx.Response, part: Path, have: int, total: int | None, max_bytes: int, progress: Progress
) -> None:
    name, done = shown(str(answer.url)), have
    _check_size(total or 0, max_bytes, name, part)
    with part.open("ab" if have else "wb") as file:
        try:
            for piece in answer.iter_raw():  # raw: what the server calls gzip-encoded may be the archive itself
                _check_size(done + len(piece), max_bytes, name, part)
                file.write(piece)
                done += len(piece)
                progress(done, total)
        except httpx.TransportError as fault:
            raise ConnectionError(f"{name} broke off ({fault}) after {done:,} bytes; they are kept") from fault
        file.flush()
        os.fsync(file.fileno())
    if total is not None and done != total:
        raise ConnectionError(f"{name} ended after {done:,} of {total:,} bytes; they are kept")


def _check_size(count: int, max_bytes: int, name: str, part: Path) -> None:
    if count > max_bytes:
        part.unlink(missing_ok=True)
        raise UserError(
            f"data.archive.url: {name} has {count:,} bytes or more, above data.archive.max_gb = "
            f"{max_bytes / 2**30:g} GiB ({max_bytes:,} bytes); raise it if that is the right file"
        )


@contextmanager
def _answer(url: str, asked: dict[str, str]) -> Iterator[httpx.Response]:
    """The server's answer to a GET, its body not yet read: status 200, 206 or 416."""
    timeout = httpx.Timeout(READ_S, connect=CONNECT_S)
    with httpx.Client(follow_redirects=True, timeout=timeout) as client:
        try:
            request = client.build_request("GET", url, headers={"Accept-Encoding": "identity", **asked})
            answer = _send(client, request)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as fault:
            raise _unreachable(url, str(fault) or type(fault).__name__) from fault
        except (httpx.UnsupportedProtocol, httpx.InvalidURL, httpx.TooManyRedirects) as fault:
            raise UserError(f"data.archive.url: {shown(url)}: {fault}; give an address that a browser opens") from fault
        except httpx.TransportError as fault:
            raise ConnectionError(f"{shown(url)}: {fault}") from fault
        try:
            if answer.status_code in PASSING:
                raise ConnectionError(f"{shown(url)} answered {answer.status_code} {answer.reason_phrase}")
            if answer.status_code not in (200, 206, 416):
                raise UserError(
                    f"data.archive.url: {shown(url)} answered {answer.status_code} {answer.reason_phrase}; {WAYS_OUT}"
                )
            yield answer
        finally:
            answer.close()


def _send(client: httpx.Client, request: httpx.Request) -> httpx.Response:
    """Send from a thread of its own: looking a name up, or trying many addresses in turn, may outlast any timeout."""
    settled, outcome = threading.Event(), list[httpx.Response | BaseException]()

    def trace(event: str, _: Any) -> None:
        if event.endswith("connect_tcp.complete"):
            settled.set()

    def send() -> None:
        try:
            outcome.append(client.send(request, stream=True))
        except BaseException as fault:
            outcome.append(fault)
        settled.set()

    request.extensions = {**request.extensions, "trace": trace}
    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    if not settled.wait(CONNECT_S):
        raise _unreachable(str(request.url), f"no connection within {CONNECT_S:g} s")
    thread.join()
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]


def _unreachable(url: str, why: str) -> UserError:
    return UserError(f"data.archive.url: {shown(url)} cannot be reached ({why}); without a network, {WAYS_OUT}")


def shown(url: str) -> str:
    """The address without name, password and query, which may be secret."""
    try:
        return str(httpx.URL(url).copy_with(userinfo=b"", query=None, fragment=None))
    except httpx.InvalidURL:
        return url.partition("?")[0]
