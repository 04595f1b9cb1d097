"""`burnish stage`, the command line itself, the table, the lock of a run, and one attempt at a stage."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
import urllib.error
from email.message import Message
from pathlib import Path

import pytest
from pydantic import BaseModel, Field
from rich.console import Console

from pipeline.cli.stage import run_stage
from pipeline.orchestration.board import LiveBoard, PlainBoard, Row, board_for, duration, last_line
from pipeline.orchestration.graph import StageGraph
from pipeline.orchestration.processes import Outcome
from pipeline.orchestration.run_lock import only_run
from pipeline.orchestration.work import Failure, TryAgain, Work
from pipeline.project import exit_codes
from stages.types import UserError
from tests.pipeline import toy_project as toy


class Narrow(BaseModel):
    side: int = Field(ge=16)


def invalid() -> Exception:
    try:
        Narrow(side=3)
    except ValueError as error:
        return error
    raise AssertionError


def http(code: int) -> Exception:
    return urllib.error.HTTPError("http://host/x.zip", code, "no", Message(), None)


def wrapped(inner: Exception) -> Exception:
    outer = RuntimeError("while saving")
    outer.__cause__ = inner
    return outer


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (UserError("a.png:\nbad"), 1, ["a.png: bad"]),
        (OSError(errno.ENOSPC, "No space left", "data/x.npy"), 1, ["data/x.npy", "disk is full", "MiB free"]),
        (wrapped(OSError(errno.ENOSPC, "No space left")), 1, ["data", "disk is full"]),
        (MemoryError("Unable to allocate 9 TiB"), 1, ["9 TiB", "MiB available", "batch size"]),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), 1, ["out of memory"]),
        (PermissionError(errno.EACCES, "Permission denied", "data/y"), 1, ["data/y: Permission denied"]),
        (invalid(), 1, ["side", "16", "got 3"]),
        (wrapped(invalid()), 1, ["side", "16"]),
        (urllib.error.URLError("name not known"), 75, ["download failed", "name not known"]),
        (wrapped(ConnectionResetError("reset")), 75, ["download failed"]),
        (http(503), 75, ["download failed", "503"]),
        (http(404), 1, ["404"]),
        (KeyError("colour"), 1, ["stage train stopped on a bug", "KeyError", "colour"]),
        (KeyboardInterrupt(), 130, ["interrupted"]),
    ],
)
def test_faults_of_a_stage(
    error: BaseException,
    code: int,
    words: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(name: str, category: str | None, detector: str | None) -> None:
        raise error

    monkeypatch.setattr("pipeline.stage_io.run_stage.run", fail)
    assert run_stage("train", "mono", "pca") == code
    err = capsys.readouterr().err.splitlines()
    assert err[-1].startswith("burnish: error: ")
    assert [word for word in words if word not in err[-1]] == []
    # A traceback is for bugs only; a fault that a user can mend is this one line.
    assert len(err) == 1 or "bug" in err[-1]


def test_arguments_reach_the_stage_in_any_order(fresh: Path) -> None:
    script = (
        "import pipeline.stage_io.run_stage as s, os\n"
        "s.run = lambda *a: print(a, os.getcwd())\n"
        "from pipeline.cli.app import app\n"
        "app(['stage', '--detector', 'ear', 'train', '--category', 'mono'])"
    )
    (fresh / "deep").mkdir()
    command = [sys.executable, "-c", script]
    done = subprocess.run(
        command, cwd=fresh / "deep", env=toy.environment(), capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == f"('train', 'mono', 'ear') {fresh.resolve()}", done.stderr


def test_importing_the_command_imports_nothing_heavy() -> None:
    script = (
        "import sys, pipeline.cli; print(sorted({'torch', 'prefect', 'dvc', 'pandas', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=toy.environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_help_and_usage(tmp_path: Path) -> None:
    code, out, _ = toy.burnish(tmp_path, "--help", COLUMNS="100")
    assert code == 0
    for words in ("Exit codes", "Examples", "data/logs/STAGE.log", "run", "doctor", "graph"):
        assert words in out
    assert toy.burnish(tmp_path, "run", "--jobs", "0")[0] == exit_codes.USAGE
    code, _, err = toy.burnish(tmp_path, "run")
    assert (code, err.count("\n")) == (1, 1)
    assert err.startswith("burnish: error: no dvc.yaml in ")


def test_one_run_at_a_time(tmp_path: Path) -> None:
    with only_run(tmp_path), pytest.raises(UserError, match=f"process {os.getpid()}"), only_run(tmp_path):
        pass
    with only_run(tmp_path):
        pass


def test_the_live_table(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("Running stage 'a':\n> python x\nepoch 1: loss 0.5\repoch 2: loss \x1b[1m0.4\x1b[0m")
    console = Console(file=io.StringIO(), force_terminal=True, width=80, _environ={"TERM": "xterm"})
    assert isinstance(board_for(["a"], console), LiveBoard)
    assert isinstance(board_for(["a"], Console(file=io.StringIO())), PlainBoard)
    with LiveBoard(["a", "b"], console) as board:
        board.set("b", "failed", "no [brackets] lost")
        board.set("a", "running", log=log)
        console.print(board.table())
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "epoch 2: loss 0.4" in shown
    assert "no [brackets] lost" in shown
    assert last_line(tmp_path / "none") == ""


def test_durations() -> None:
    assert [duration(Row(seconds=s)) for s in (None, 0.04, 59.94, 61, 3723)] == [
        "",
        "0.0 s",
        "59.9 s",
        "1:01",
        "1:02:03",
    ]


class Answers:
    """Stands for `Processes`: gives the outcomes that a test wants, and records how it was called."""

    def __init__(self, *outcomes: Outcome) -> None:
        self.outcomes = list(outcomes)
        self.calls: list[tuple[str, bool, bool]] = []

    def run(self, stage: str, log: Path, *, force: bool, again: bool) -> Outcome:
        self.calls.append((stage, force, again))
        return self.outcomes.pop(0)


def work_with(*outcomes: Outcome) -> tuple[Work, Answers]:
    order = ("a", "b", "c", "d")
    parents: dict[str, tuple[str, ...]] = {"a": (), "b": ("a",), "c": ("b",), "d": ()}
    graph = StageGraph(order, parents, stale=frozenset({"a", "d"}), forced=frozenset({"d"}))
    work = Work(Path(), graph, PlainBoard(order), delays_s=(0.0, 0.0))
    work._processes = answers = Answers(*outcomes)  # type: ignore[assignment]
    return work, answers


@pytest.mark.parametrize("kind", ["locked", "transient"])
def test_what_may_pass_is_told_apart(kind: str) -> None:
    work, answers = work_with(Outcome(kind, "busy"), Outcome("failed", "bad"), Outcome("done"))  # type: ignore[arg-type]
    with pytest.raises(TryAgain, match="busy"):
        work.attempt("a", 1)
    with pytest.raises(Failure, match="bad") as caught:
        work.attempt("a", 2)
    assert not isinstance(caught.value, TryAgain)
    assert work.attempt("d", 1) == "done"
    assert answers.calls == [("a", False, False), ("a", False, True), ("d", True, False)]
    work.stop_event.set()
    with pytest.raises(Failure, match="interrupted"):
        work.attempt("a", 1)


def test_ready_finish_and_skip() -> None:
    work, _ = work_with()
    assert work.pending() == ("a", "b", "c", "d")
    assert work.ready() == ["a", "d"]
    work.start("a")
    assert work.ready() == ["d"]
    work.finish("a", "unchanged")
    assert work.ready() == ["d"]  # b and c were only downstream of a, which gave nothing new
    assert [work.board.rows[s].state for s in "abc"] == ["cached"] * 3
    work.start("d")
    work.finish("d", "restored")
    assert work.finished

    work, _ = work_with()
    work.start("a")
    work.finish("a", "restored")
    assert work.ready() == ["b", "d"]  # restored outputs may differ from those before
    work.start("b")
    work.finish("b", Failure("bad"))
    assert work.board.rows["c"].state == "skipped"
    assert work.failures == {"b": "bad"}
    assert work.ready() == ["d"]
    assert not work.finished
