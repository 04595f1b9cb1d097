"""How an attempt ended, from the exit code and the output of `dvc repro`."""

from __future__ import annotations

import re

import pytest

from pipeline.orchestration.outcome import classify_outcome

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
        (255, RUNNING + "burnish: error: no network\n" + FAILED.format(75), "transient", "no network"),
        (255, RUNNING + "is busy, it is being blocked by\nfoo\n" + FAILED.format(3), "failed", "exit code 3; .*: foo"),
        (255, RUNNING + "half\n" + FAILED.format(-9), "failed", "SIGKILL.*memory"),
        (
            255,
            "ERROR: '/p/out' is busy, it is being blocked by:\n  (PID 7): dvc repro\n\nIf there are no processes\n",
            "locked",
            r"/p/out is held by process 7 \(dvc repro\): wait",
        ),
        (255, "ERROR: Unable to acquire lock. Most likely another DVC process\n", "locked", "wait until it ends"),
        (255, RUNNING + "ERROR: failed to reproduce 'a': output 'b' does not exist\n", "failed", "'b' does not exist"),
        (1, "", "failed", "exit code 1"),
    ],
)
def test_classify_outcome(code: int, text: str, kind: str, message: str) -> None:
    outcome = classify_outcome(code, text)
    assert outcome.kind == kind
    assert "\n" not in outcome.message
    if message:
        assert re.search(message, outcome.message), outcome.message
    else:
        assert outcome.message == ""
