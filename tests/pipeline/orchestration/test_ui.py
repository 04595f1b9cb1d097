"""`burnish ui` as a process, `burnish run` beside it, and the page in a real browser. Two servers start in all."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipeline.orchestration import server
from pipeline.orchestration import ui as ui_module
from stages.types import UserError
from tests.browser import Browser, Page, browser  # noqa: F401
from tests.pipeline import toy_project as toy

UI = """
import sys
from pathlib import Path
from pipeline.cli.faults import faults_in_one_line
from pipeline.orchestration.ui import run_ui
with faults_in_one_line():
    sys.exit(run_ui(Path.cwd(), port=0))
"""
OWN_FAULTS = ("amplitude.com", "/favicon.ico", "/completed.svg", "/api/task_runs/filter")
"""Of Prefect's page itself: a tracking service, which our policy blocks; icons that it seeks at the wrong place; and an
artifact's task run, which it asks for though the artifact belongs to a flow run."""
METRICS = {"mono": {"ear": {"image_auroc": 0.875, "escape_rate": 0.25}}}
CHART = "document.querySelectorAll('svg[id^=mermaid]').length"
PICTURE = "[...document.images].find(image => image.src.startsWith('data:image/png'))?.naturalWidth"


@dataclass
class Ui:
    """A running `burnish ui`."""

    process: subprocess.Popen[str]
    project: Path
    page: str

    @property
    def named(self) -> Path:
        return self.project / ".prefect/server.json"


def start_ui(project: Path) -> Ui:
    """Returns once it has printed its address."""
    environment = toy.environment()
    for name in ("PREFECT_API_URL", "PREFECT_HOME"):
        environment.pop(name, None)
    process = subprocess.Popen(
        [sys.executable, "-c", UI],
        cwd=project,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout
    said = []
    for line in process.stdout:
        said.append(line)
        if line.startswith("page: "):
            return Ui(process, project, line.split()[1])
    process.wait()
    raise AssertionError("".join(said))


def ask(page: str, what: str) -> list[dict[str, Any]]:
    """All flow runs or artifacts that the server knows."""
    request = urllib.request.Request(f"{page}/api/{what}/filter", b"{}", {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as reply:
        return list(json.load(reply))


def once(page: Page, what: str) -> Any:
    """The value of an expression as soon as it has one; the page may be drawing."""
    look = f"const look = () => {{ const found = {what}; found ? done(found) : setTimeout(look, 50) }}; look()"
    return page.evaluate(f"new Promise(done => {{ {look} }})")


@pytest.fixture(scope="module")
def ui(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    """The server of a project whose metrics differ from HEAD's and that has a picture."""
    project = toy.copy(reference, tmp_path_factory.mktemp("ui") / "project")
    (project / "data/metrics").mkdir(parents=True)
    (project / "data/metrics/metrics.json").write_text(json.dumps(METRICS))
    for command in (["add", "data/metrics"], ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "start"]):
        subprocess.run(["git", *command], cwd=project, check=True)
    METRICS["mono"]["ear"]["escape_rate"] = 0.125
    (project / "data/metrics/metrics.json").write_text(json.dumps(METRICS))
    (project / "data/plots").mkdir()
    Image.new("RGB", (37, 20)).save(project / "data/plots/mono-roc.png")
    running = start_ui(project)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.terminate()
            running.process.wait()


@pytest.fixture(scope="module")
def shown(ui: Ui) -> Ui:
    """After a run of one stage, which found the server by itself."""
    code, _, err = toy.burnish(ui.project, "run", "--force", "score")
    assert (code, err) == (0, "")
    return ui


def test_it_says_where_it_is_and_whose(ui: Ui) -> None:
    named = json.loads(ui.named.read_text())
    assert named == {"api": f"{ui.page}/api", "pid": ui.process.pid, "command": "burnish ui"}
    assert ui.page.startswith("http://127.0.0.1:")
    request = urllib.request.Request(f"{ui.page}/", headers={"accept": "text/html"})
    with urllib.request.urlopen(request, timeout=30) as reply:
        assert "default-src 'self'" in reply.headers["Content-Security-Policy"]


def test_a_second_one_names_the_first(ui: Ui) -> None:
    again = start_ui(ui.project)
    assert again.page == ui.page
    assert again.process.wait() == 0
    assert ui.process.poll() is None and ui.named.exists()


def test_a_run_is_on_the_page_with_all_its_results(shown: Ui, browser: Browser) -> None:  # noqa: F811
    (run,) = ask(shown.page, "flow_runs")
    artifacts = {one["key"]: one["id"] for one in ask(shown.page, "artifacts") if one["type"] == "markdown"}
    assert set(artifacts) == {"burnish-stages", "burnish-metrics", "burnish-diff", "burnish-roc-mono"}
    with browser.open(f"{shown.page}/v2/runs/flow-run/{run['id']}?tab=Artifacts", wait_for="burnish-metrics") as page:
        assert all(key in page.text() for key in artifacts)
        assert "Completed" in page.text()
        expected = {
            "metrics": ("0.875", "12.5%"),
            "diff": ("burnish diff: ", "25.0% → 12.5%", "paired on the test images"),
            "stages": ("train@mono-x", "train x 2"),  # only the chart says `train x 2`, and only once it is drawn
        }
        for key, texts in expected.items():
            page.go(f"{shown.page}/v2/artifacts/artifact/{artifacts[f'burnish-{key}']}")
            for text in texts:
                page.wait_for(text)
            assert "<sub>" not in page.text()
        assert once(page, CHART) == 1
        page.go(f"{shown.page}/v2/artifacts/artifact/{artifacts['burnish-roc-mono']}")
        page.wait_for("ROC curves of mono")
        assert once(page, PICTURE) == 37
        assert [one for one in page.requests if not one.startswith((shown.page, "blob:"))] == []
        assert [one for one in (*page.errors, *page.failed) if not any(own in one for own in OWN_FAULTS)] == []


def test_its_start_page_lists_the_run(shown: Ui, browser: Browser) -> None:  # noqa: F811
    with browser.open(f"{shown.page}/v2/runs", wait_for="burnish run") as page:
        assert [one for one in (*page.errors, *page.failed) if not any(own in one for own in OWN_FAULTS)] == []


def test_killed_under_a_run_then_started_again(ui: Ui) -> None:
    """kill -9 takes the server along. The run ends as its stages did; the next one finds the old runs."""
    before = {run["id"] for run in ask(ui.page, "flow_runs")}
    (ui.project / "pid").unlink(missing_ok=True)
    run = toy.start(ui.project, "run", "--force", "left", TOY_BLOCK="left", PREFECT_CLIENT_MAX_RETRIES="0")
    toy.wait_for(lambda: (ui.project / "pid").exists() and (ui.project / "pid").read_text() != "")
    ui.process.kill()
    ui.process.wait()
    toy.wait_for(lambda: not server.answers(f"{ui.page}/api"))
    assert ui.named.exists()
    assert server.running_server(ui.named.parent) is None
    os.kill(int((ui.project / "pid").read_text()), signal.SIGKILL)
    out, err = run.communicate()
    assert run.returncode == 1
    assert err.startswith("burnish: error: left: was killed (SIGKILL)") and err.count("\n") == 1, err
    assert toy.states(out)["left"] == ["running", "failed"]
    log = (ui.project / "data/logs/artifacts.log").read_text().splitlines()
    assert len(log) == 2 and log[1].startswith("Prefect was not told how the run ended: ConnectError")

    again = start_ui(ui.project)
    assert json.loads(again.named.read_text())["pid"] == again.process.pid
    assert before < {one["id"] for one in ask(again.page, "flow_runs")}
    again.process.send_signal(signal.SIGINT)
    assert again.process.wait() == 0
    assert again.process.stdout and again.process.stdout.read() == "stopped\n"
    assert not again.named.exists() and not server.answers(f"{again.page}/api")


@contextmanager
def healthy() -> Iterator[str]:
    """The address of something that answers as a Prefect server would."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
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


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    return tmp_path


def used(home: Path, stop: threading.Event) -> server.Server:
    with server.project_server(home, stop, "test") as (found, group):
        assert group is None
    return found


def test_the_file_counts_only_while_its_writer_lives(home: Path) -> None:
    with healthy() as api:
        named = server.Server(api, 1, "burnish retrain")
        server._write(home / "server.json", named)
        assert server.running_server(home) is None  # there is not even a lock
        with (home / "server.lock").open("a") as lock:
            assert server.running_server(home) is None
            fcntl.flock(lock, fcntl.LOCK_EX)
            assert server.running_server(home) == named
            assert used(home, threading.Event()) == named
            for broken in ("", "{", "[]", '{"api": 1}', json.dumps({"api": "http://127.0.0.1:9/api"})):
                (home / "server.json").write_text(broken)
                assert server.running_server(home) is None
        assert not (home / "server.part").exists()


def test_another_that_is_still_starting_is_waited_for(home: Path) -> None:
    with healthy() as api, (home / "server.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        named = server.Server(api, 1, "burnish ui")
        threading.Timer(0.3, server._write, (home / "server.json", named)).start()
        assert used(home, threading.Event()) == named


def test_waiting_ends_when_told_and_after_a_while(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (home / "server.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stop = threading.Event()
        stop.set()
        assert used(home, stop).api == ""
        monkeypatch.setattr(server, "START_TIMEOUT_S", 0.0)
        with pytest.raises(UserError, match="does not answer"):
            used(home, threading.Event())


def test_a_long_lived_process_and_its_children_use_the_live_server(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with healthy() as api, (home / "server.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        server._write(home / "server.json", server.Server(api, 1, "burnish ui"))
        with ui_module.live_server(home) as page:
            from prefect.settings import PREFECT_API_URL

            assert (page, PREFECT_API_URL.value(), os.environ["PREFECT_API_URL"]) == (
                api.removesuffix("/api"),
                api,
                api,
            )
        assert "PREFECT_API_URL" not in os.environ


def test_the_usual_port_or_any(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        monkeypatch.setattr(ui_module, "PORT", other.getsockname()[1])
        assert ui_module._port() == 0
    assert ui_module._port() == ui_module.PORT


def test_a_port_that_is_taken_is_one_line() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=rf"^port {port} of 127.0.0.1 cannot be used .* --port {port + 1}$"):
            ui_module._check_free("127.0.0.1", port)
    ui_module._check_free("127.0.0.1", port)
    with pytest.raises(UserError, match=r"--host no\.such\.host\.invalid: "):
        ui_module._check_free("no.such.host.invalid", 1)
    with pytest.raises(UserError, match=r"192\.0\.2\.1 is no address of this machine"):
        ui_module._check_free("192.0.2.1", 0)
