"""`burnish run` as a user sees it, compared with plain `dvc repro`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pipeline import toy_project as toy


@pytest.mark.usefixtures("prefect_api")
@pytest.mark.parametrize("jobs", [pytest.param("1", marks=pytest.mark.long), "2"])
def test_same_order_and_same_lock_as_dvc(fresh: Path, reference: Path, jobs: str) -> None:
    # With two jobs `left` ends after `right`, so DVC appends their entries in the opposite order.
    late = {"TOY_LATE": "left"} if jobs == "2" else {}
    code, out, err = toy.burnish(fresh, "run", "--jobs", jobs, **late)
    assert (code, err) == (0, "")
    assert sorted(toy.states(out)) == sorted(toy.ORDER)
    assert all(states == ["running", "done"] for states in toy.states(out).values())
    ran = toy.journal(fresh)
    assert (ran if jobs == "1" else sorted(ran)) == (toy.ORDER if jobs == "1" else sorted(toy.ORDER))
    assert (fresh / "dvc.lock").read_bytes() == (reference / "dvc.lock").read_bytes()
    assert "up to date" in toy.dvc(fresh, "status")
    assert "working on left" in (fresh / "data/logs/left.log").read_text()
    assert not (fresh / ".dvc/tmp/burnish-baseline.json").exists()


@pytest.mark.usefixtures("prefect_api")
def test_a_changed_parameter_runs_only_the_stages_that_use_it(complete: Path) -> None:
    (complete / "params.yaml").write_text("a: 1\nx: 1\n'y': 2\n")
    code, out, _ = toy.burnish(complete, "run")
    states = toy.states(out)
    assert code == 0
    assert toy.journal(complete) == ["train@mono-y"]
    # `score` was pending, but train@mono-y gave the same bytes, so DVC reports it as unchanged.
    assert states.pop("train@mono-y") == ["running", "done"]
    assert states.pop("score") == ["running", "cached"]
    assert all(seen == ["cached"] for seen in states.values())


@pytest.mark.usefixtures("prefect_api")
def test_descendants_of_an_unchanged_stage_need_no_process(complete: Path) -> None:
    code, out, _ = toy.burnish(complete, "run", "--force", "download", "left")
    assert code == 0
    assert toy.journal(complete) == ["download"]
    assert toy.states(out) == {"download": ["running", "done"], "left": ["running", "cached"]}


def test_nothing_to_do_imports_neither_prefect_nor_torch(complete: Path) -> None:
    script = (
        "import sys\nfrom pipeline.cli.app import app\n"
        "try: app(['run'])\nexcept SystemExit as end: print('code', end.code)\n"
        "print('loaded', sorted({'prefect', 'torch', 'dvc'} & set(sys.modules)))\n"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=complete, env=toy.environment(), capture_output=True, text=True, check=False)
    assert "nothing to do: 6 stages up to date" in done.stdout, done.stdout + done.stderr
    assert done.stdout.splitlines()[-2:] == ["code 0", "loaded ['dvc']"]
    assert "\x1b" not in done.stdout
    assert toy.journal(complete) == []
    assert not (complete / ".prefect").exists()


@pytest.mark.long
@pytest.mark.usefixtures("prefect_api")
def test_transient_and_locked_stages_are_retried_and_failed_stages_are_not(fresh: Path) -> None:
    """A download fails once, `left` fails for good, and another process holds `right` for a while."""
    toy.hold(fresh, "out/right", os.getpid())
    process = toy.start(fresh, "run", TOY_TRANSIENT="download", TOY_FAIL="left")
    assert process.stdout and process.stderr
    out = ""
    for line in process.stdout:
        out += line
        if f"out/right is held by process {os.getpid()} (dvc repro by hand)" in line:
            (fresh / ".dvc/tmp/rwlock").unlink()
    err = process.stderr.read()
    assert process.wait() == 1
    assert err == "burnish: error: left: images/7.png is truncated: remove it (log: data/logs/left.log)\n"
    states = toy.states(out)
    assert states["download"] == states["right"] == ["running", "waiting", "running", "done"]
    assert states["left"] == ["running", "failed"]
    assert states["train@mono-x"] == states["score"] == ["skipped"]
    assert toy.journal(fresh) == ["download", "download", "left", "right"]


@pytest.mark.long
@pytest.mark.usefixtures("prefect_api")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_stage(fresh: Path, number: signal.Signals, code: int) -> None:
    process = toy.start(fresh, "run", "download", TOY_BLOCK="download")
    toy.wait_for((fresh / "pid").exists)
    descendants = _descendants(process.pid)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, out + err
    assert all(toy.gone(pid) for pid in descendants)
    assert err == f"burnish: interrupted ({number.name}); `burnish run` continues where it stopped\n"
    assert toy.states(out)["download"] == ["running", "failed"]
    # DVC released its locks, so the next run continues; here it is plain DVC.
    toy.dvc(fresh, "repro", "download")
    assert toy.journal(fresh) == ["download", "download"]


@pytest.mark.long
def test_kill_9_leaves_no_orphan_and_the_temporary_server_ends(fresh: Path) -> None:
    """The only test in which a run starts a server of its own, as it does by default. The server ends with the run."""
    process = toy.start(fresh, "run", "download", TOY_BLOCK="download")
    toy.wait_for((fresh / "pid").exists)
    descendants = _descendants(process.pid)
    assert any("uvicorn" in command for command in descendants.values())
    assert any("dvc" in command for command in descendants.values())
    code, _, err = toy.burnish(fresh, "run")
    assert (code, f"process {process.pid}" in err) == (1, True)  # one run at a time
    process.kill()
    process.wait()
    toy.wait_for(lambda: all(toy.gone(pid) for pid in descendants))
    assert toy.gone(int((fresh / "pid").read_text()))


def _descendants(pid: int) -> dict[int, str]:
    import psutil

    return {child.pid: " ".join(child.cmdline()) for child in psutil.Process(pid).children(recursive=True)}
