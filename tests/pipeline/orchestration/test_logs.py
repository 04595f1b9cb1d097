"""Lines of logs, without control characters, and the end of a log."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.orchestration import logs
from pipeline.orchestration.logs import last_line, read_tail, text_lines


@given(st.text())
def test_lines_hold_no_control_characters(text: str) -> None:
    assert all(line.strip() for line in text_lines(text))
    assert not any(ord(c) < 32 and c != "\t" for line in text_lines(text) for c in line)


def test_lines_of_progress_bars_and_colours() -> None:
    assert text_lines("\x1b[31m 10%\x1b[0m\r 20%\r\n\n\x1b]0;title\x07done") == [" 10%", " 20%", "done"]


def test_the_tail_starts_at_an_offset_and_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"first attempt\nsecond attempt\n")
    assert read_tail(log, 14) == "second attempt\n"
    monkeypatch.setattr(logs, "TAIL_BYTES", 8)
    assert read_tail(log) == "attempt\n"


def test_the_last_line(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("one\n  two\n\n")
    assert last_line(log) == "two"
    log.write_text("")
    assert last_line(log) == "no output"
