"""The supervisor, and what is read from DVC's output."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.orchestration import processes, supervise
from pipeline.orchestration.processes import Group, judge, lines, tail
from tests.pipeline import toy_project as toy

CHILD = "import os, pathlib, time; pathlib.Path('child').write_text(str(os.getpid()))\nwhile True: time.sleep(9)"
PARENT = (
    "import os, pathlib, subprocess, sys; process = subprocess.Popen([sys.executable, '-I', '-S', '-c', sys.argv[1]])\n"
    "pathlib.Path('parent').write_text(str(os.getpid())); process.wait()"
)


def family(folder: Path, child: str = CHILD) -> tuple[Group, int, int]:
    """A supervised process and its child; the group, and the two process ids."""
    with (folder / "log").open("wb") as log:
        group = Group([sys.executable, "-I", "-S", "-c", PARENT, child], log, folder, dict(os.environ))

    def started() -> bool:
        return all((folder / name).exists() and (folder / name).read_text() for name in ("parent", "child"))

    toy.wait_for(started)
    return group, int((folder / "parent").read_text()), int((folder / "child").read_text())


def test_stop_ends_the_whole_group(tmp_path: Path) -> None:
    group, parent, child = family(tmp_path)
    group.stop()
    group.wait()
    assert toy.gone(parent)
    assert toy.gone(child)
    assert "KeyboardInterrupt" in (tmp_path / "log").read_text()  # asked by SIGINT, not killed


def test_a_killed_parent_takes_its_child_along(tmp_path: Path) -> None:
    group, parent, child = family(tmp_path)
    os.kill(parent, signal.SIGKILL)
    assert group.wait() == 128 + signal.SIGKILL
    assert toy.gone(child)


def test_a_killed_supervisor_leaves_nothing(tmp_path: Path) -> None:
    group, parent, child = family(tmp_path)
    os.kill(group._process.pid, signal.SIGKILL)
    assert group.wait() == 128 + signal.SIGKILL
    toy.wait_for(lambda: toy.gone(parent) and toy.gone(child))


def test_a_second_stop_kills_what_ignores_the_first(tmp_path: Path) -> None:
    deaf = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n{CHILD}"
    group, parent, child = family(tmp_path, deaf)
    group.stop()
    toy.wait_for(lambda: toy.gone(parent))
    assert group.running()
    assert not toy.gone(child)
    group.stop(now=True)
    group.wait()
    assert toy.gone(child)


def test_patience_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert supervise.PATIENCE_S[-1][0] == signal.SIGKILL
    monkeypatch.setattr(supervise, "PATIENCE_S", tuple((number, 0.05) for number, _ in supervise.PATIENCE_S))
    sent: list[int] = []
    monkeypatch.setattr(os, "killpg", lambda group, number: sent.append(number))
    supervise.end_group(1)  # a group that never ends
    assert [number for number in sent if number] == [signal.SIGINT, signal.SIGTERM, signal.SIGKILL]


def test_exit_code_and_output_pass_through(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        group = Group(["sh", "-c", "echo out; echo err >&2; exit 75"], log, tmp_path, dict(os.environ))
    assert group.wait() == 75
    assert (tmp_path / "log").read_text() == "out\nerr\n"


FAILED = "ERROR: failed to reproduce 'a': failed to run: python x.py, exited with {}\n"
RUNNING = "Running stage 'a':\n> python x.py\n"


@pytest.mark.parametrize(
    ("code", "text", "kind", "message"),
    [
        (0, RUNNING + "Updating lock file 'dvc.lock'\n", "done", ""),
        (0, "Stage 'a' didn't change, skipping\nData and pipelines are up to date.\n", "unchanged", ""),
        (0, "Stage 'a' is cached - skipping run, checking out outputs\n", "restored", ""),
        (0, RUNNING + "note: Stage 'a' didn't change, skipping\n", "done", ""),
        (255, RUNNING + "burnish: error: x.png: bad\n" + FAILED.format(1), "failed", "x.png: bad"),
        (255, RUNNING + "burnish: error: no net\n" + FAILED.format(75), "transient", "no net"),
        (255, RUNNING + "is busy, it is being blocked by\nfoo\n" + FAILED.format(3), "failed", "exit code 3; .*: foo"),
        (255, RUNNING + "half\n" + FAILED.format(-9), "failed", "SIGKILL.*memory"),
        (
            255,
            "ERROR: '/p/out' is busy, it is being blocked by:\n  (PID 7): dvc repro\n\nIf there are no processes\n",
            "locked",
            r"/p/out is held by process 7 \(dvc repro\): wait",
        ),
        (255, "ERROR: Unable to acquire lock. Most likely another DVC process\n", "locked", "wait for it"),
        (255, RUNNING + "ERROR: failed to reproduce 'a': output 'b' does not exist\n", "failed", "'b' does not exist"),
        (1, "", "failed", "exit code 1"),
    ],
)
def test_judge(code: int, text: str, kind: str, message: str) -> None:
    outcome = judge(code, text)
    assert outcome.kind == kind
    assert "\n" not in outcome.message
    if message:
        assert re.search(message, outcome.message), outcome.message
    else:
        assert outcome.message == ""


@given(st.text())
def test_lines_hold_no_control_characters(text: str) -> None:
    assert all(line.strip() for line in lines(text))
    assert not any(ord(c) < 32 and c != "\t" for line in lines(text) for c in line)


def test_progress_bars_and_colours() -> None:
    assert lines("\x1b[31m 10%\x1b[0m\r 20%\r\n\n\x1b]0;title\x07done") == [" 10%", " 20%", "done"]


def test_tail_starts_where_told_and_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"first attempt\nsecond attempt\n")
    assert tail(log, 14) == "second attempt\n"
    monkeypatch.setattr(processes, "TAIL_BYTES", 8)
    assert tail(log) == "attempt\n"
