"""The message to a webhook: sent for important results, and a failure to send it never ends a run."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from pipeline.retrain.notify import URL_VARIABLE, notify
from pipeline.retrain.records import Run

FAILED = Run("20260101T000000Z", "failed", "the disk is full", champion="v0.1.0")


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[list[Any], HTTPServer]]:
    received: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200 if self.path == "/hook" else 500)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv(URL_VARIABLE, f"http://127.0.0.1:{server.server_port}/hook")
    yield received, server
    server.shutdown()
    server.server_close()


def test_a_failure_is_sent_as_text_and_in_full(webhook: tuple[list[Any], HTTPServer], tmp_path: Path) -> None:
    received, _ = webhook
    assert notify(tmp_path, FAILED)
    assert "failed. the disk is full" in received[0]["text"]
    assert received[0]["run"]["champion"] == "v0.1.0"


def test_nothing_new_is_not_sent(webhook: tuple[list[Any], HTTPServer], tmp_path: Path) -> None:
    received, _ = webhook
    assert not notify(tmp_path, Run("20260101T000000Z", "nothing new"))
    assert received == []


def test_without_an_address_nothing_is_sent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(URL_VARIABLE, raising=False)
    assert not notify(tmp_path, FAILED)


@pytest.mark.parametrize("address", ["http://127.0.0.1:1/hook", "not an address", "http://[::1"])
def test_a_message_that_cannot_be_sent_is_one_line_without_the_address(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], address: str
) -> None:
    monkeypatch.setenv(URL_VARIABLE, address)
    assert not notify(tmp_path, FAILED)
    stderr = capsys.readouterr().err
    assert stderr.count("\n") == 1
    assert address not in stderr


def test_a_refusal_is_a_line_too(
    webhook: tuple[list[Any], HTTPServer],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(URL_VARIABLE, f"http://127.0.0.1:{webhook[1].server_port}/elsewhere")
    assert not notify(tmp_path, FAILED)
    assert "HTTPStatusError" in capsys.readouterr().err


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"])
def test_a_receiver_that_trickles_bytes_does_not_hold_the_run(
    start: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It sends a byte more often than any limit for a single read."""
    told, listener = threading.Event(), socket.create_server(("127.0.0.1", 0))

    def trickle() -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            connection.sendall(start)
            while not told.wait(0.02):
                connection.sendall(b"a")

    receiver = threading.Thread(target=trickle)
    receiver.start()
    monkeypatch.setenv(URL_VARIABLE, f"http://127.0.0.1:{listener.getsockname()[1]}/hook")
    try:
        sent = notify(tmp_path, Run("20260101T000000Z", "failed", "why"), timeout_s=0.5)
        assert sent == start.endswith(b"\r\n\r\n")  # once the status is known, the rest does not matter
        assert ("no complete answer within 0.5 s" in capsys.readouterr().err) == (not sent)
    finally:
        told.set()
        receiver.join()
        listener.close()


@pytest.mark.parametrize("proxy", ["socks5://proxy:1", "socks://proxy:1", "http://proxy:port"])
def test_a_proxy_that_cannot_be_used_is_no_traceback(
    proxy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    monkeypatch.setenv(URL_VARIABLE, "http://127.0.0.1:1/hook")
    assert not notify(tmp_path, Run("20260101T000000Z", "failed", "why"))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"burnish: {URL_VARIABLE}: the message could not be sent")
