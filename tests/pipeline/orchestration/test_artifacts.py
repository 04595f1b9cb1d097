"""The artifacts of a run, without a server. test_ui.py looks at them in a browser."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.orchestration import artifacts
from pipeline.orchestration.board import Board
from pipeline.orchestration.graph import StageGraph
from pipeline.orchestration.run_state import RunState
from stages.types import UserError

METRICS: dict[str, Any] = {
    "Mono_1": {"ear": {"image_auroc": 0.9, "escape_rate": 0.2, "aupro": None}, "pca": {"image_auroc": 0.8}}
}


def git(root: Path, *arguments: str) -> None:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments]
    subprocess.run(command, cwd=root, check=True, capture_output=True)


def finished(root: Path, order: tuple[str, ...] = ("infer", "score"), fails: str = "") -> RunState:
    """A run of these stages, one after the other, that has ended. `fails`: the stage that failed."""
    parents = {stage: order[:i][-1:] for i, stage in enumerate(order)}
    run = RunState(root, StageGraph(order, parents, stale=frozenset(order)), Board(order))
    while ready := run.ready():
        run.board.set_state(ready[0], "running")
        run.start(ready[0])
        run.finish(ready[0], RuntimeError("a|b <c>") if ready[0] == fails else "done")
    return run


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project whose metrics differ from those of HEAD, with a plot."""
    git(tmp_path, "init", "--quiet")
    write_metrics(tmp_path, METRICS)
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "start")
    now = json.loads(json.dumps(METRICS))
    now["Mono_1"]["ear"]["image_auroc"] = 0.95
    write_metrics(tmp_path, now)
    (tmp_path / "data/plots").mkdir()
    (tmp_path / "data/plots/Mono_1-roc.png").write_bytes(b"picture")
    return tmp_path


def write_metrics(root: Path, metrics: Any) -> None:
    path = root / "data/metrics/metrics.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(metrics))


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Key -> Markdown of the artifacts that were sent to Prefect."""
    artifacts_by_key: dict[str, str] = {}

    def create(text: str, *, key: str, description: str) -> None:
        assert description
        artifacts_by_key[key] = text

    monkeypatch.setattr("prefect.artifacts.create_markdown_artifact", create)
    return artifacts_by_key


def log(root: Path) -> list[str]:
    path = root / "data/logs/artifacts.log"
    return path.read_text().splitlines() if path.exists() else []


def test_artifacts_of_a_finished_run(root: Path, shown: dict[str, str]) -> None:
    artifacts.publish(finished(root))
    assert list(shown) == ["burnish-stages", "burnish-metrics", "burnish-diff", "burnish-roc-mono-1"]
    assert "```mermaid\nflowchart LR\n" in shown["burnish-stages"] and "s_infer --> s_score" in shown["burnish-stages"]
    assert "| infer | done | 0.0 s |  |" in shown["burnish-stages"]
    assert "| Mono_1 | ear | 0.950 |" in shown["burnish-metrics"]
    assert "| Mono_1/ear | 0.900 → 0.950<br>" in shown["burnish-diff"]
    picture = base64.b64encode(b"picture").decode()
    assert shown["burnish-roc-mono-1"] == f"![ROC](data:image/png;base64,{picture})\n"
    assert log(root) == []


@pytest.mark.parametrize(("order", "fails"), [(("infer", "score"), "infer"), (("download", "infer"), "")])
def test_old_metrics_are_not_shown(root: Path, shown: dict[str, str], order: tuple[str, ...], fails: str) -> None:
    artifacts.publish(finished(root, order, fails))
    assert list(shown) == ["burnish-stages"]
    if fails:
        assert "| infer | failed | 0.0 s | a\\|b &lt;c&gt; |" in shown["burnish-stages"]
        assert "| score | skipped |  | needs infer |" in shown["burnish-stages"]


def test_no_comparison_with_a_head_without_metrics(root: Path, shown: dict[str, str]) -> None:
    git(root, "rm", "--quiet", "--cached", "data/metrics/metrics.json")
    git(root, "commit", "--quiet", "-m", "none")
    artifacts.publish(finished(root))
    assert shown["burnish-diff"].startswith("No comparison with HEAD: HEAD")
    assert "has nothing to compare" in shown["burnish-diff"]


def test_a_fault_is_logged_and_the_next_artifacts_are_shown(root: Path, shown: dict[str, str]) -> None:
    (root / "data/metrics/metrics.json").write_text("{")
    artifacts.publish(finished(root))
    assert list(shown) == ["burnish-stages", "burnish-diff"]
    assert shown["burnish-diff"].startswith("No comparison with HEAD: ")
    assert [line.partition(" ")[0] for line in log(root)] == ["metrics", "pictures"]
    assert all("not shown in Prefect: JSONDecodeError" in line for line in log(root))


def test_a_server_that_is_gone_gets_one_request(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = []

    def create(text: str, **_: str) -> None:
        requests.append(text)
        raise httpx.ConnectError("refused\nby itself")

    monkeypatch.setattr("prefect.artifacts.create_markdown_artifact", create)
    artifacts.publish(finished(root))
    assert len(requests) == 1
    assert log(root) == ["stages not shown in Prefect: ConnectError('refused\\nby itself')"]


def test_a_log_that_cannot_be_written_is_no_fault(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prefect.artifacts.create_markdown_artifact", lambda *_, **__: 1 / 0)
    (root / "data/logs").write_text("a file")
    artifacts.publish(finished(root))


class EndedTask:
    """Stands for the future of a task that has ended."""

    def add_done_callback(self, call: Callable[[EndedTask], None]) -> None:
        call(self)

    def result(self, raise_on_failure: bool) -> str:
        return "done"


def test_tasks_name_their_parents(tmp_path: Path) -> None:
    """Prefect takes the edges of its graph from them. `a` does not run, so it is no task."""
    from pipeline.orchestration.flow import _run_in_order

    graph = StageGraph(("a", "b", "c", "d"), {"a": (), "b": ("a",), "c": ("a", "b"), "d": ("b", "c")}, frozenset("bcd"))
    tasks: dict[str, EndedTask] = {}
    after: dict[str, list[EndedTask]] = {}

    def submit(stage: str, wait_for: list[EndedTask]) -> EndedTask:
        after[stage] = wait_for
        tasks[stage] = EndedTask()
        return tasks[stage]

    _run_in_order(RunState(tmp_path, graph, Board(graph.order)), 1, submit)  # type: ignore[arg-type]
    assert after == {"b": [], "c": [tasks["b"]], "d": [tasks["b"], tasks["c"]]}


def test_no_server_at_the_start_is_an_error_of_one_line(tmp_path: Path) -> None:
    from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

    from pipeline.orchestration.flow import run_flow

    graph = StageGraph(("a",), {"a": ()}, frozenset("a"))
    gone = {PREFECT_API_URL: "http://127.0.0.1:9/api", PREFECT_HOME: tmp_path}
    with temporary_settings(gone), pytest.raises(UserError, match=r"gave up .*Failed to reach"):
        run_flow(RunState(tmp_path, graph, Board(graph.order)), 1)


def test_an_interrupted_run_creates_no_artifact(root: Path, shown: dict[str, str]) -> None:
    run = finished(root)
    run.stop_event.set()
    artifacts.publish(run)
    assert shown == {}
