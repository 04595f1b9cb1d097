"""Finding the Prefect server that another process of the project has started."""

from __future__ import annotations

import fcntl
import json
import threading
from pathlib import Path

import pytest

from pipeline.orchestration import server
from pipeline.orchestration.server_discovery import Server, running_server, write_address
from stages.types import UserError
from tests.pipeline.orchestration.healthy import healthy


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    return tmp_path


def other_server(home: Path, stop: threading.Event) -> Server:
    """The server of another process that `project_server` chooses."""
    with server.project_server(home, stop, "test") as (chosen, group):
        assert group is None
    return chosen


def test_the_address_is_valid_only_while_its_writer_lives(home: Path) -> None:
    with healthy() as api:
        written = Server(api, 1, "burnish retrain")
        write_address(home, written)
        assert running_server(home) is None  # there is no lock file
        with (home / "server.lock").open("a") as lock:
            assert running_server(home) is None
            fcntl.flock(lock, fcntl.LOCK_EX)
            assert running_server(home) == written
            assert other_server(home, threading.Event()) == written
            for broken in ("", "{", "[]", '{"api": 1}', json.dumps({"api": "http://127.0.0.1:9/api"})):
                (home / "server.json").write_text(broken)
                assert running_server(home) is None
        assert not (home / "server.part").exists()


def test_a_server_that_is_starting_is_waited_for(home: Path) -> None:
    with healthy() as api, (home / "server.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        written = Server(api, 1, "burnish ui")
        threading.Timer(0.3, write_address, (home, written)).start()
        assert other_server(home, threading.Event()) == written


def test_waiting_ends_by_the_event_and_after_the_timeout(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (home / "server.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stop = threading.Event()
        stop.set()
        assert other_server(home, stop).api == ""
        monkeypatch.setattr(server, "START_TIMEOUT_S", 0.0)
        with pytest.raises(UserError, match="does not answer"):
            other_server(home, threading.Event())
