"""Downloads one file: complete or absent, resumed where the server allows it, limited in size, never mixed from two
versions.

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
"""Without a connection after CONNECT_S seconds there is no network; a server that is silent for READ_S seconds has
failed."""
TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP status codes of errors that may pass."""
ALTERNATIVES = (
    "put the images into data.folder (with data.archive.url: null), or fetch the archive on another machine and set "
    "data.archive.url to its path"
)
Progress = Callable[[int, int | None], None]
"""Called with the bytes so far, and the total bytes where they are known."""


@dataclass(frozen=True)
class _PartialDownload:
    """What is known of the file whose first bytes are in the .part file."""

    url: str
    validator: str
    """Strong ETag, or else Last-Modified: the version that the bytes belong to. Empty: the download cannot be
    resumed."""
    total: int | None


def fetch(url: str, target: Path, max_bytes: int, progress: Progress) -> None:
    """Download `url` (http, https) to `target`; the remains of an interrupted download beside it are resumed.

    Raises:
        UserError: no connection within CONNECT_S, a final answer of the server (such as 404), or more than `max_bytes`.
        ConnectionError: an error that may pass; the bytes received so far are kept.
    """
    part, note = target.with_name(f"{target.name}.part"), target.with_name(f"{target.name}.part.json")
    partial, received = _partial_download(url, note), part.stat().st_size if part.exists() else 0
    if partial is None or not partial.validator:
        received = 0
    if partial is None or received == 0 or received != partial.total:
        headers = (
            {"Range": f"bytes={received}-", "If-Range": partial.validator} if partial is not None and received else {}
        )
        with _request(url, headers) as response:
            resumed = partial is not None and _is_continuation(response, received, partial)
            if response.status_code != 200 and not resumed:  # the range does not continue the partial download
                part.unlink(missing_ok=True)
                raise ConnectionError(f"{redacted(url)} changed while it was downloaded, or its server cannot resume")
            if partial is None or not resumed:
                partial, received = _new_download(url, response), 0
                note.write_text(json.dumps(asdict(partial)))
            _receive(response, part, received, partial.total, max_bytes, progress)
    part.replace(target)
    note.unlink(missing_ok=True)


def check_digest(path: Path, expected: str) -> None:
    """Raises UserError if the file's sha256 is not the expected one."""
    actual = digest_of(path)
    if actual != expected:
        raise UserError(f"its sha256 is {actual}, data.archive.sha256 is {expected}; correct the wrong one")


def digest_of(path: Path) -> str:
    """sha256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _partial_download(url: str, note: Path) -> _PartialDownload | None:
    try:
        partial = _PartialDownload(**json.loads(note.read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    return partial if partial.url == url else None


def _new_download(url: str, response: httpx.Response) -> _PartialDownload:
    etag, length = response.headers.get("ETag", ""), response.headers.get("Content-Length", "")
    validator = etag if etag.startswith('"') else response.headers.get("Last-Modified", "")
    return _PartialDownload(url, validator, int(length) if length.isdigit() else None)


def _is_continuation(response: httpx.Response, received: int, partial: _PartialDownload) -> bool:
    """Whether the response continues the version that the first `received` bytes belong to."""
    if response.status_code != 206:
        return False
    span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    etag = response.headers.get("ETag", partial.validator)
    return (
        span is not None
        and int(span[1]) == received
        and (partial.total is None or span[2] in ("*", str(partial.total)))
        and (not partial.validator.startswith('"') or etag == partial.validator)
    )


def _receive(
    response: httpx.Response, part: Path, received: int, total: int | None, max_bytes: int, progress: Progress
) -> None:
    name, done = redacted(str(response.url)), received
    _check_size(total or 0, max_bytes, name, part)
    with part.open("ab" if received else "wb") as file:
        try:
            for piece in response.iter_raw():  # raw: what the server calls gzip-encoded may be the archive itself
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
            f"{max_bytes / 2**30:g} GiB ({max_bytes:,} bytes); raise this limit if the file is the right one"
        )


@contextmanager
def _request(url: str, headers: dict[str, str]) -> Iterator[httpx.Response]:
    """The server's response to a GET, with its body not yet read: status 200, 206 or 416."""
    timeout = httpx.Timeout(READ_S, connect=CONNECT_S)
    with httpx.Client(follow_redirects=True, timeout=timeout) as client:
        try:
            request = client.build_request("GET", url, headers={"Accept-Encoding": "identity", **headers})
            response = _send(client, request)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as fault:
            raise _unreachable(url, str(fault) or type(fault).__name__) from fault
        except (httpx.UnsupportedProtocol, httpx.InvalidURL, httpx.TooManyRedirects) as fault:
            raise UserError(
                f"data.archive.url: {redacted(url)}: {fault}; give an address that a browser opens"
            ) from fault
        except httpx.TransportError as fault:
            raise ConnectionError(f"{redacted(url)}: {fault}") from fault
        try:
            if response.status_code in TRANSIENT_STATUS:
                raise ConnectionError(f"{redacted(url)} answered {response.status_code} {response.reason_phrase}")
            if response.status_code not in (200, 206, 416):
                raise UserError(
                    f"data.archive.url: {redacted(url)} answered {response.status_code} {response.reason_phrase}; "
                    f"{ALTERNATIVES}"
                )
            yield response
        finally:
            response.close()


def _send(client: httpx.Client, request: httpx.Request) -> httpx.Response:
    """Send from a separate thread: a name look-up, or trying many addresses in turn, may take longer than any
    timeout."""
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
    return UserError(f"data.archive.url: {redacted(url)} cannot be reached ({why}); without a network, {ALTERNATIVES}")


def redacted(url: str) -> str:
    """The address without user name, password and query, which may be secret."""
    try:
        return str(httpx.URL(url).copy_with(userinfo=b"", query=None, fragment=None))
    except httpx.InvalidURL:
        return url.partition("?")[0]
