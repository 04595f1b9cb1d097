"""What is said of a run, without a server; test_ui.py looks at it in a browser."""

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
from pipeline.orchestration.work import Work
from stages.types import UserError

METRICS: dict[str, Any] = {
    "Mono_1": {"ear": {"image_auroc": 0.9, "escape_rate": 0.2, "aupro": None}, "pca": {"image_auroc": 0.8}}
}


def git(root: Path, *arguments: str) -> None:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments]
    subprocess.run(command, cwd=root, check=True, capture_output=True)


def finished(root: Path, order: tuple[str, ...] = ("infer", "score"), fails: str = "") -> Work:
    """A run of these stages one after the other, all of them over."""
    parents = {stage: order[:i][-1:] for i, stage in enumerate(order)}
    work = Work(root, StageGraph(order, parents, stale=frozenset(order)), Board(order))
    while ready := work.ready():
        work.board.set(ready[0], "running")
        work.start(ready[0])
        work.finish(ready[0], RuntimeError("a|b <c>") if ready[0] == fails else "done")
    return work


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with metrics that differ from HEAD's, and a picture."""
    git(tmp_path, "init", "--quiet")
    written(tmp_path, METRICS)
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "start")
    now = json.loads(json.dumps(METRICS))
    now["Mono_1"]["ear"]["image_auroc"] = 0.95
    written(tmp_path, now)
    (tmp_path / "data/plots").mkdir()
    (tmp_path / "data/plots/Mono_1-roc.png").write_bytes(b"picture")
    return tmp_path


def written(root: Path, metrics: Any) -> None:
    path = root / "data/metrics/metrics.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(metrics))


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Key -> text of what went to Prefect."""
    found: dict[str, str] = {}

    def create(text: str, *, key: str, description: str) -> None:
        assert description
        found[key] = text

    monkeypatch.setattr("prefect.artifacts.create_markdown_artifact", create)
    return found


def log(root: Path) -> list[str]:
    path = root / "data/logs/artifacts.log"
    return path.read_text().splitlines() if path.exists() else []


def test_all_that_a_finished_run_shows(root: Path, shown: dict[str, str]) -> None:
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


def test_a_head_without_metrics(root: Path, shown: dict[str, str]) -> None:
    git(root, "rm", "--quiet", "--cached", "data/metrics/metrics.json")
    git(root, "commit", "--quiet", "-m", "none")
    artifacts.publish(finished(root))
    assert shown["burnish-diff"].startswith("No comparison with HEAD: HEAD")
    assert "has nothing to compare" in shown["burnish-diff"]


def test_a_fault_is_one_line_and_the_rest_is_shown(root: Path, shown: dict[str, str]) -> None:
    (root / "data/metrics/metrics.json").write_text("{")
    artifacts.publish(finished(root))
    assert list(shown) == ["burnish-stages", "burnish-diff"]
    assert shown["burnish-diff"].startswith("No comparison with HEAD: ")
    assert [line.partition(" ")[0] for line in log(root)] == ["metrics", "pictures"]
    assert all("not shown in Prefect: JSONDecodeError" in line for line in log(root))


def test_a_server_that_is_gone_is_asked_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def create(text: str, **_: str) -> None:
        asked.append(text)
        raise httpx.ConnectError("refused\nby itself")

    monkeypatch.setattr("prefect.artifacts.create_markdown_artifact", create)
    artifacts.publish(finished(root))
    assert len(asked) == 1
    assert log(root) == ["stages not shown in Prefect: ConnectError('refused\\nby itself')"]


def test_even_without_a_place_for_the_log(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prefect.artifacts.create_markdown_artifact", lambda *_, **__: 1 / 0)
    (root / "data/logs").write_text("a file")
    artifacts.publish(finished(root))


class Ended:
    """What Prefect gives for a task; this one ends at once."""

    def add_done_callback(self, call: Callable[[Ended], None]) -> None:
        call(self)

    def result(self, raise_on_failure: bool) -> str:
        return "done"


def test_stages_name_those_they_come_after(tmp_path: Path) -> None:
    """From this Prefect draws the edges. `a` has not run, so it is no task."""
    from pipeline.orchestration.flow import _run_in_order

    graph = StageGraph(("a", "b", "c", "d"), {"a": (), "b": ("a",), "c": ("a", "b"), "d": ("b", "c")}, frozenset("bcd"))
    tasks: dict[str, Ended] = {}
    after: dict[str, list[Ended]] = {}

    def submit(stage: str, wait_for: list[Ended]) -> Ended:
        after[stage] = wait_for
        tasks[stage] = Ended()
        return tasks[stage]

    _run_in_order(Work(tmp_path, graph, Board(graph.order)), 1, submit)  # type: ignore[arg-type]
    assert after == {"b": [], "c": [tasks["b"]], "d": [tasks["b"], tasks["c"]]}


def test_no_server_at_the_start_is_one_line(tmp_path: Path) -> None:
    from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

    from pipeline.orchestration.flow import run_flow

    graph = StageGraph(("a",), {"a": ()}, frozenset("a"))
    gone = {PREFECT_API_URL: "http://127.0.0.1:9/api", PREFECT_HOME: tmp_path}
    with temporary_settings(gone), pytest.raises(UserError, match=r"gave up .*Failed to reach"):
        run_flow(Work(tmp_path, graph, Board(graph.order)), 1)


def test_a_run_that_is_being_stopped_shows_nothing_more(root: Path, shown: dict[str, str]) -> None:
    work = finished(root)
    work.stop_event.set()
    artifacts.publish(work)
    assert shown == {}
