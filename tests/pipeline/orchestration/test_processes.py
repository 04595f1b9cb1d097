"""The supervisor: no process of a group survives, whichever process ends first."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from pipeline.orchestration import supervise
from pipeline.orchestration.processes import ProcessGroup
from tests.pipeline import toy_project as toy

CHILD = "import os, pathlib, time; pathlib.Path('child').write_text(str(os.getpid()))\nwhile True: time.sleep(9)"
PARENT = (
    "import os, pathlib, subprocess, sys; process = subprocess.Popen([sys.executable, '-I', '-S', '-c', sys.argv[1]])\n"
    "pathlib.Path('parent').write_text(str(os.getpid())); process.wait()"
)


def start_family(folder: Path, child: str = CHILD) -> tuple[ProcessGroup, int, int]:
    """A supervised process that has a child: the group, the process id of the parent, and that of the child."""
    with (folder / "log").open("wb") as log:
        group = ProcessGroup([sys.executable, "-I", "-S", "-c", PARENT, child], log, folder, dict(os.environ))

    def started() -> bool:
        return all((folder / name).exists() and (folder / name).read_text() for name in ("parent", "child"))

    toy.wait_for(started)
    return group, int((folder / "parent").read_text()), int((folder / "child").read_text())


def test_stop_ends_the_whole_group(tmp_path: Path) -> None:
    group, parent, child = start_family(tmp_path)
    group.stop()
    group.wait()
    assert toy.gone(parent)
    assert toy.gone(child)
    assert "KeyboardInterrupt" in (tmp_path / "log").read_text()  # by SIGINT, not by SIGKILL


def test_a_killed_parent_ends_its_child(tmp_path: Path) -> None:
    group, parent, child = start_family(tmp_path)
    os.kill(parent, signal.SIGKILL)
    assert group.wait() == 128 + signal.SIGKILL
    assert toy.gone(child)


def test_a_killed_supervisor_leaves_no_process(tmp_path: Path) -> None:
    group, parent, child = start_family(tmp_path)
    os.kill(group._process.pid, signal.SIGKILL)
    assert group.wait() == 128 + signal.SIGKILL
    toy.wait_for(lambda: toy.gone(parent) and toy.gone(child))


def test_a_second_stop_kills_a_process_that_ignores_the_first(tmp_path: Path) -> None:
    ignores_sigint = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n{CHILD}"
    group, parent, child = start_family(tmp_path, ignores_sigint)
    group.stop()
    toy.wait_for(lambda: toy.gone(parent))
    assert group.running()
    assert not toy.gone(child)
    group.stop(now=True)
    group.wait()
    assert toy.gone(child)


def test_each_signal_is_sent_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert supervise.PATIENCE_S[-1][0] == signal.SIGKILL
    monkeypatch.setattr(supervise, "PATIENCE_S", tuple((number, 0.05) for number, _ in supervise.PATIENCE_S))
    sent: list[int] = []
    monkeypatch.setattr(os, "killpg", lambda group, number: sent.append(number))
    supervise.end_group(1)  # stands for a group that never ends
    assert [number for number in sent if number] == [signal.SIGINT, signal.SIGTERM, signal.SIGKILL]


def test_exit_code_and_output_pass_through(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        group = ProcessGroup(["sh", "-c", "echo out; echo err >&2; exit 75"], log, tmp_path, dict(os.environ))
    assert group.wait() == 75
    assert (tmp_path / "log").read_text() == "out\nerr\n"
