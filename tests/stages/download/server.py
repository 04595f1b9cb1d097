"""An HTTP server on loopback that serves one file, correctly or with a fault."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Served:
    """What the server serves, and how."""

    data: bytes = b""
    etag: str | None = '"1"'
    ranges: bool = True
    careless: bool = False
    """The server ignores If-Range, and names no version with a range."""
    cut: int | None = None
    """Bytes of the body after which the connection breaks."""
    length: bool = True
    """Whether the server announces the length of the file."""
    status: int = 200
    redirect: str | None = None
    asked: list[str | None] = field(default_factory=list)
    """Range headers of the requests so far."""
    url: str = ""


@contextmanager
def serving(data: bytes = b"") -> Iterator[Served]:
    """A server that runs for the time of the block."""
    served = Served(data)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            answer(self, served)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.url = f"http://127.0.0.1:{server.server_address[1]}/set.zip"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def answer(request: BaseHTTPRequestHandler, served: Served) -> None:
    """Answer one request according to `served`."""
    asked = request.headers.get("Range")
    served.asked.append(asked)
    if served.redirect is not None and request.path != "/moved":
        request.send_response(302)
        request.send_header("Location", served.redirect)
        request.send_header("Content-Length", "0")
        request.end_headers()
        return
    if served.status != 200:
        request.send_error(served.status)
        return
    start, status = 0, 200
    fresh = served.careless or request.headers.get("If-Range") == served.etag
    if asked and served.ranges and fresh:
        span = re.fullmatch(r"bytes=(\d+)-", asked)
        assert span is not None
        start, status = int(span[1]), 206
        if start >= len(served.data):
            request.send_error(416)
            return
    body = served.data[start:]
    request.send_response(status)
    if served.length:
        request.send_header("Content-Length", str(len(body)))
    if status == 206:
        request.send_header("Content-Range", f"bytes {start}-{len(served.data) - 1}/{len(served.data)}")
    if served.etag is not None and not (served.careless and status == 206):
        request.send_header("ETag", served.etag)
    request.end_headers()
    request.wfile.write(body[: served.cut])
