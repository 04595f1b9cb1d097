"""A stand-in for a Prefect server."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def healthy(login: str = "") -> Iterator[str]:
    """The address of a server that answers as a Prefect server does.

    Args:
        login: `USER:PASSWORD`, which all requests but health checks must give.
    """
    allowed = f"Basic {base64.b64encode(login.encode()).decode()}"

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            may = not login or self.path == "/api/health" or self.headers.get("Authorization") == allowed
            self.send_response(200 if may else 401)
            self.end_headers()
            self.wfile.write(b"true")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_port}/api"
        finally:
            http.shutdown()
            thread.join()
