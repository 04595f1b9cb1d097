"""`burnish ui` as a process, `burnish run` beside it, and the page in a real browser. Only two servers are started."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipeline.orchestration import ui as ui_module
from pipeline.orchestration.server_discovery import Server, answers, running_server, write_address
from stages.types import UserError
from tests.browser import Browser, Page, browser  # noqa: F401
from tests.pipeline import toy_project as toy
from tests.pipeline.orchestration.healthy import healthy

pytestmark = pytest.mark.long

UI = """
import sys
from pathlib import Path
from pipeline.cli.faults import faults_in_one_line
from pipeline.orchestration.ui import run_ui
with faults_in_one_line():
    sys.exit(run_ui(Path.cwd(), port=0))
"""
FAULTS_OF_PREFECT = ("amplitude.com", "/favicon.ico", "/completed.svg", "/api/task_runs/filter")
"""Parts of errors that are faults of Prefect's page: a tracking service, which our policy blocks; icons at a wrong URL;
and a request for the task run of an artifact that belongs to a flow run."""
METRICS = {"mono": {"ear": {"image_auroc": 0.875, "escape_rate": 0.25}}}
CHART = "document.querySelectorAll('svg[id^=mermaid]').length"
PICTURE = "[...document.images].find(image => image.src.startsWith('data:image/png'))?.naturalWidth"


@dataclass
class Ui:
    """A running `burnish ui`."""

    process: subprocess.Popen[str]
    project: Path
    page: str
    """URL of the page."""

    @property
    def address_file(self) -> Path:
        return self.project / ".prefect/server.json"


def start_ui(project: Path) -> Ui:
    """Start `burnish ui`, and return when it has printed its address."""
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
    output = []
    for line in process.stdout:
        output.append(line)
        if line.startswith("page: "):
            return Ui(process, project, line.split()[1])
    process.wait()
    raise AssertionError("".join(output))


def query(page: str, kind: str) -> list[dict[str, Any]]:
    """All `flow_runs` or `artifacts` of the server."""
    request = urllib.request.Request(f"{page}/api/{kind}/filter", b"{}", {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as reply:
        return list(json.load(reply))


def wait_for_value(page: Page, expression: str) -> Any:
    """The value of an expression in JavaScript, as soon as it is not false. The page may still be rendering."""
    poll = f"const poll = () => {{ const value = {expression}; value ? done(value) : setTimeout(poll, 50) }}; poll()"
    return page.evaluate(f"new Promise(done => {{ {poll} }})")


def unexpected_errors(page: Page) -> list[str]:
    """Errors and failed requests of a page that are not known faults of Prefect."""
    return [error for error in (*page.errors, *page.failed) if not any(fault in error for fault in FAULTS_OF_PREFECT)]


@pytest.fixture(scope="module")
def ui(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    """`burnish ui` in a project whose metrics differ from those of HEAD, and that has a plot."""
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
    """The same after a run of one stage, which found the server by itself."""
    code, _, err = toy.burnish(ui.project, "run", "--force", "score")
    assert (code, err) == (0, "")
    return ui


def test_the_file_names_address_process_and_command(ui: Ui) -> None:
    address = json.loads(ui.address_file.read_text())
    assert address == {"api": f"{ui.page}/api", "pid": ui.process.pid, "command": "burnish ui"}
    assert ui.page.startswith("http://127.0.0.1:")
    request = urllib.request.Request(f"{ui.page}/", headers={"accept": "text/html"})
    with urllib.request.urlopen(request, timeout=30) as reply:
        assert "default-src 'self'" in reply.headers["Content-Security-Policy"]


def test_a_second_command_prints_the_address_of_the_first(ui: Ui) -> None:
    again = start_ui(ui.project)
    assert again.page == ui.page
    assert again.process.wait() == 0
    assert ui.process.poll() is None and ui.address_file.exists()


def test_the_page_shows_a_run_with_all_its_artifacts(shown: Ui, browser: Browser) -> None:  # noqa: F811
    (run,) = query(shown.page, "flow_runs")
    artifacts = {
        artifact["key"]: artifact["id"] for artifact in query(shown.page, "artifacts") if artifact["type"] == "markdown"
    }
    assert set(artifacts) == {"burnish-stages", "burnish-metrics", "burnish-diff", "burnish-roc-mono"}
    with browser.open(f"{shown.page}/v2/runs/flow-run/{run['id']}?tab=Artifacts", wait_for="burnish-metrics") as page:
        assert all(key in page.text() for key in artifacts)
        assert "Completed" in page.text()
        expected = {
            "metrics": ("0.875", "12.5%"),
            "diff": ("burnish diff: ", "25.0% → 12.5%", "paired on the test images"),
            "stages": ("train@mono-x", "train x 2"),  # only the rendered chart has `train x 2`
        }
        for key, texts in expected.items():
            page.go(f"{shown.page}/v2/artifacts/artifact/{artifacts[f'burnish-{key}']}")
            for text in texts:
                page.wait_for(text)
            assert "<sub>" not in page.text()
        assert wait_for_value(page, CHART) == 1
        page.go(f"{shown.page}/v2/artifacts/artifact/{artifacts['burnish-roc-mono']}")
        page.wait_for("ROC curves of mono")
        assert wait_for_value(page, PICTURE) == 37
        assert [url for url in page.requests if not url.startswith((shown.page, "blob:"))] == []
        assert unexpected_errors(page) == []


def test_the_start_page_lists_the_run(shown: Ui, browser: Browser) -> None:  # noqa: F811
    with browser.open(f"{shown.page}/v2/runs", wait_for="burnish run") as page:
        assert unexpected_errors(page) == []


def test_kill_9_during_a_run_and_a_new_start(shown: Ui) -> None:
    """kill -9 also ends the server. The run ends as its stages did, and the next server knows the old runs."""
    ui = shown
    before = {run["id"] for run in query(ui.page, "flow_runs")}
    (ui.project / "pid").unlink(missing_ok=True)
    run = toy.start(ui.project, "run", "--force", "left", TOY_BLOCK="left", PREFECT_CLIENT_MAX_RETRIES="0")
    toy.wait_for(lambda: (ui.project / "pid").exists() and (ui.project / "pid").read_text() != "")
    ui.process.kill()
    ui.process.wait()
    toy.wait_for(lambda: not answers(f"{ui.page}/api"))
    assert ui.address_file.exists()
    assert running_server(ui.address_file.parent) is None
    os.kill(int((ui.project / "pid").read_text()), signal.SIGKILL)
    out, err = run.communicate()
    assert run.returncode == 1
    assert err.startswith("burnish: error: left: was killed (SIGKILL)") and err.count("\n") == 1, err
    assert toy.states(out)["left"] == ["running", "failed"]
    log = (ui.project / "data/logs/artifacts.log").read_text().splitlines()
    assert len(log) == 2 and log[1].startswith("Prefect was not told how the run ended: ConnectError")

    again = start_ui(ui.project)
    assert json.loads(again.address_file.read_text())["pid"] == again.process.pid
    assert before < {run["id"] for run in query(again.page, "flow_runs")}
    again.process.send_signal(signal.SIGINT)
    assert again.process.wait() == 0
    assert again.process.stdout and again.process.stdout.read() == "stopped\n"
    assert not again.address_file.exists() and not answers(f"{again.page}/api")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    return tmp_path


def test_a_long_lived_process_and_its_children_use_the_running_server(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with healthy() as api, (home / "server.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        write_address(home, Server(api, 1, "burnish ui"))
        with ui_module.live_server(home) as page:
            from prefect.settings import PREFECT_API_URL

            assert (page, PREFECT_API_URL.value(), os.environ["PREFECT_API_URL"]) == (
                api.removesuffix("/api"),
                api,
                api,
            )
        assert "PREFECT_API_URL" not in os.environ


def test_the_default_port_or_any_free_port(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        monkeypatch.setattr(ui_module, "DEFAULT_PORT", other.getsockname()[1])
        assert ui_module._default_or_free_port() == 0
    assert ui_module._default_or_free_port() == ui_module.DEFAULT_PORT


def test_a_port_or_host_that_cannot_be_used_is_an_error_of_one_line() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=rf"^port {port} of 127.0.0.1 cannot be used .* --port {port + 1}$"):
            ui_module._check_port_is_free("127.0.0.1", port)
    ui_module._check_port_is_free("127.0.0.1", port)
    with pytest.raises(UserError, match=r"--host no\.such\.host\.invalid: "):
        ui_module._check_port_is_free("no.such.host.invalid", 1)
    with pytest.raises(UserError, match=r"192\.0\.2\.1 is no address of this machine"):
        ui_module._check_port_is_free("192.0.2.1", 0)
