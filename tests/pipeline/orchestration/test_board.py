"""The table of a run: on a terminal, and as plain lines."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from pipeline.orchestration.board import LiveBoard, PlainBoard, StageRow, duration, last_message, make_board


def test_the_live_table(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("Running stage 'a':\n> python x\nepoch 1: loss 0.5\repoch 2: loss \x1b[1m0.4\x1b[0m")
    console = Console(file=io.StringIO(), force_terminal=True, width=80, _environ={"TERM": "xterm"})
    assert isinstance(make_board(["a"], console), LiveBoard)
    assert isinstance(make_board(["a"], Console(file=io.StringIO())), PlainBoard)
    with LiveBoard(["a", "b"], console) as board:
        board.set_state("b", "failed", "no [brackets] lost")
        board.set_state("a", "running", log=log)
        console.print(board.table())
    output = console.file.getvalue()  # type: ignore[attr-defined]
    assert "epoch 2: loss 0.4" in output
    assert "no [brackets] lost" in output
    assert last_message(tmp_path / "none") == ""


def test_durations() -> None:
    assert [duration(StageRow(seconds=s)) for s in (None, 0.04, 59.94, 61, 3723)] == [
        "",
        "0.0 s",
        "59.9 s",
        "1:01",
        "1:02:03",
    ]
