"""How an attempt at a stage ended, as the exit code and the output of `dvc repro` tell it."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from typing import Literal

from pipeline.orchestration.logs import text_lines
from pipeline.project.exit_codes import TRANSIENT

Kind = Literal["done", "restored", "unchanged", "locked", "transient", "failed"]

_DVC_FAULT = 255
"""DVC's exit code for each of its own faults, and for each stage that fails."""
_SKIPPED = re.compile(r"(Stage )?'.*' didn't change, skipping")
_RESTORED = re.compile(r"Stage '.*' is cached - skipping run, checking out outputs")
_STAGE_EXIT_CODE = re.compile(r"exited with (-?\d+)\s*$", flags=re.MULTILINE)


@dataclass(frozen=True)
class Outcome:
    """How one attempt at a stage ended."""

    kind: Kind
    """`done`: the stage ran. `restored`: DVC took its outputs from the run cache. `unchanged`: it was up to date.
    `locked`: another DVC process holds the stage. `transient`: a download failed for a reason that may pass.
    `failed`: every other failure."""
    message: str = ""
    """One line for the user. Empty if the attempt succeeded."""


def classify_outcome(code: int, log: str) -> Outcome:
    """Classify an attempt by the exit code and the output of `dvc repro`.

    DVC ends with the same exit code (255) after each of its own faults and after each stage that fails, so only the
    output tells them apart.
    """
    lines = text_lines(log)
    if code == 0:
        return Outcome(_kind_of_success(lines))
    error = log[log.rfind("ERROR: ") :] if "ERROR: " in log else ""
    stage_exit_codes = _STAGE_EXIT_CODE.findall(error)
    stage_exit_code = int(stage_exit_codes[-1]) if stage_exit_codes else None
    if code == _DVC_FAULT and stage_exit_code is None:
        if "is busy, it is being blocked by" in error:
            return Outcome("locked", _lock_message(error))
        if "Unable to acquire lock" in error:
            return Outcome("locked", "another DVC process is running: wait until it ends, or end it")
    kind: Kind = "transient" if code == _DVC_FAULT and stage_exit_code == TRANSIENT else "failed"
    return Outcome(kind, _failure_message(code, lines, stage_exit_code))


def _kind_of_success(lines: list[str]) -> Kind:
    if any(_SKIPPED.fullmatch(line) for line in lines):
        return "unchanged"
    return "restored" if any(_RESTORED.fullmatch(line) for line in lines) else "done"


def _lock_message(error: str) -> str:
    """Names the path that is locked and the process that holds it, both from DVC's message."""
    path = re.search(r"'(.*)' is busy", error)
    process = re.search(r"\(PID (\d+)\): (.*)", error)
    locked = path.group(1) if path else "a file of this stage"
    holder = f"process {process.group(1)} ({process.group(2).strip()})" if process else "another DVC process"
    return f"{locked} is held by {holder}: wait until it ends, or end it"


def _failure_message(code: int, lines: list[str], stage_exit_code: int | None) -> str:
    """The most informative line: `burnish: error:` of the stage, else DVC's error, else the last line of the stage."""
    stage_errors = [line for line in lines if line.startswith("burnish: error: ")]
    if stage_errors:
        return stage_errors[-1].removeprefix("burnish: error: ")
    ending = f"ended with exit code {stage_exit_code if stage_exit_code is not None else code}"
    if code == 128 + signal.SIGKILL or stage_exit_code in (-signal.SIGKILL, 128 + signal.SIGKILL):
        return "was killed (SIGKILL): by somebody, or by the system because memory ran out"
    if stage_exit_code is None:
        dvc_errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
        return dvc_errors[-1] if dvc_errors else ending
    dvc_prefixes = ("ERROR: ", "Running stage '", "> ", "Use `dvc push`")
    stage_lines = [line.strip() for line in lines if not line.startswith(dvc_prefixes)]
    return f"{ending}; its last line: {stage_lines[-1]}" if stage_lines else ending
