"""The message to a webhook: sent for important results, and a failure to send it never ends a run."""

from __future__ import annotations

import json
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
