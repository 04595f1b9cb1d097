"""Run the pipeline in the worktree, with a time limit."""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from pipeline.orchestration.logs import read_tail, text_lines
from pipeline.orchestration.processes import ProcessGroup
from pipeline.orchestration.server_settings import prefect_home
from pipeline.project.root import command_environment
from stages.types import UserError

STAGE_LINE = re.compile(r"\d\d:\d\d:\d\d  .*  (running|done|failed|skipped)\b")
POLL_S = 0.2
"""Time between two looks into the log."""


def run_pipeline(root: Path, folder: Path, log: Path, timeout_s: float, say: Callable[[str], None]) -> None:
    """Run `burnish run` in a worktree, on the Prefect server of the project.

    Args:
        root: of the project.
        folder: the worktree.
        log: file for the output.
        timeout_s: the run is ended after so many seconds.
        say: called with each line of progress.

    Raises:
        UserError: the run failed or took too long.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {"PREFECT_HOME": str(prefect_home(root)), **command_environment()}
    with log.open("wb") as output:
        group = ProcessGroup([sys.executable, "-m", "pipeline", "run"], output, folder, environment)
        timed_out = threading.Event()

        def end() -> None:
            timed_out.set()
            group.stop()

        timer = threading.Timer(timeout_s, end)
        timer.start()
        try:
            _report_progress(log, group, say)
            code = group.wait()
        finally:
            timer.cancel()
            group.stop()
    if timed_out.is_set():
        raise UserError(f"the pipeline was ended after retrain.timeout_minutes = {timeout_s / 60:g} (log: {log})")
    if code:
        lines = text_lines(read_tail(log)) or ["no output"]
        errors = [line for line in lines if "error" in line.lower()] or lines
        raise UserError(f"the pipeline failed: {errors[-1].removeprefix('burnish: error: ')} (log: {log})")


def _report_progress(log: Path, group: ProcessGroup, say: Callable[[str], None]) -> None:
    """Pass on the lines about stages until the command ends."""
    with log.open(encoding="utf-8", errors="replace") as file:
        rest, running = "", True
        while running:
            running = group.running()
            rest += file.read()
            *lines, rest = rest.split("\n")
            for line in lines:
                if STAGE_LINE.match(line):
                    say(f"  {line.rstrip()}")
            if running:
                time.sleep(POLL_S)
