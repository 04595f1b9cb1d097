"""Stages as processes: `dvc repro --single-item STAGE`, each in a process group that ends with us whatever happens."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from pipeline.project.exit_codes import TRANSIENT
from pipeline.project.root import command_environment

SUPERVISOR = Path(__file__).with_name("supervise.py")
TAIL_BYTES = 65_536
"""How much of a log's end is searched for messages."""

Kind = Literal["done", "restored", "unchanged", "locked", "transient", "failed"]


@dataclass(frozen=True)
class Outcome:
    """How one attempt at a stage ended."""

    kind: Kind
    """`done`: it ran. `restored`: DVC took its outputs from the run cache. `unchanged`: nothing to do. `locked`:
    another DVC process holds the stage. `transient`: a download failed in a way that may pass. `failed`: all else."""
    message: str = ""
    """One line for the user; empty where all went well."""


class Group:
    """One command under the supervisor, in a session of its own, so that Ctrl-C in the terminal reaches only us."""

    def __init__(self, command: list[str], output: IO[bytes], cwd: Path, environment: dict[str, str]) -> None:
        read, self._lifeline = os.pipe()
        self._lock = threading.RLock()  # a signal handler may call stop() while this thread is in it
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(SUPERVISOR), str(read), *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=environment,
                pass_fds=(read,),
                start_new_session=True,
            )
        except BaseException:
            os.close(self._lifeline)
            raise
        finally:
            os.close(read)

    def stop(self, *, now: bool = False) -> None:
        """Ask the group to end (SIGINT, later harder), or kill it now. Does not wait."""
        with self._lock:
            if self._lifeline >= 0:
                os.close(self._lifeline)
                self._lifeline = -1
        if now:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)

    def running(self) -> bool:
        return self._process.poll() is None

    def wait(self) -> int:
        """The command's exit code (128 + signal where a signal ended it), once nothing of its group is left."""
        code = self._process.wait()
        self.stop()
        if code < 0:  # somebody killed the supervisor itself
            _end_session(self._process.pid)
            return 128 - code
        return code


def _end_session(session: int) -> None:
    """Kill what is left of a session whose leader is gone."""
    import psutil

    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            if os.getsid(process.pid) == session:
                process.kill()


class Processes:
    """The stages that run at the moment."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._environment = command_environment()
        self._groups: set[Group] = set()
        self._lock = threading.RLock()
        self._stopped = False

    def run(self, stage: str, log: Path, *, force: bool = False, again: bool = False) -> Outcome:
        """Bring one stage up to date and wait for it.

        Args:
            stage: as `dvc repro` names it.
            log: receives all output of DVC and of the stage.
            force: run it even if nothing changed.
            again: append to the log of an attempt before.
        """
        # --wait-for-lock: DVC takes its global lock anew once the command has ended, and without this gives up after
        # 3 s, with the stage's work undone. The lock is held for short moments only.
        command = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item"]
        command += ["--force"] if force else []
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab" if again else "wb") as output:
            start = output.tell()
            with self._lock:
                if self._stopped:
                    return Outcome("failed", "interrupted")
                group = Group([*command, "--", stage], output, self.root, self._environment)
                self._groups.add(group)
            try:
                code = group.wait()
            finally:
                with self._lock:
                    self._groups.discard(group)
        return Outcome("failed", "interrupted") if self._stopped and code != 0 else judge(code, tail(log, start))

    def stop(self, *, now: bool = False) -> None:
        """End all stages and start no more. `now`: without waiting for them to tidy up."""
        with self._lock:
            self._stopped = True
            for group in self._groups:
                group.stop(now=now)


def tail(log: Path, start: int = 0) -> str:
    """The last `TAIL_BYTES` of a log that were written after byte `start`."""
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(start, size - TAIL_BYTES))
        return file.read().decode("utf-8", "replace")


_CONTROL = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"
)


def lines(text: str) -> list[str]:
    """Lines that are not blank, without control characters; a carriage return (progress bars) ends a line too."""
    cleaned = (_CONTROL.sub("", line).rstrip() for line in re.split(r"[\r\n]+", text))
    return [line for line in cleaned if line.strip()]


def judge(code: int, text: str) -> Outcome:
    """Tell from DVC's exit code and output what became of a stage.

    DVC ends with 255 for every fault of its own and for every failed stage, so the text has to tell them apart.
    """
    found = lines(text)
    if code == 0:
        if any(re.fullmatch(r"(Stage )?'.*' didn't change, skipping", line) for line in found):
            return Outcome("unchanged")
        restored = any(
            re.fullmatch(r"Stage '.*' is cached - skipping run, checking out outputs", line) for line in found
        )
        return Outcome("restored" if restored else "done")
    after_error = text[text.rfind("ERROR: ") :] if "ERROR: " in text else ""
    exits = re.findall(r"exited with (-?\d+)\s*$", after_error, flags=re.MULTILINE)
    if code == 255 and not exits:
        if "is busy, it is being blocked by" in after_error:
            return Outcome("locked", _blocker(after_error))
        if "Unable to acquire lock" in after_error:
            return Outcome("locked", "another DVC process is at work: wait for it to end, or end it")
    kind: Kind = "transient" if code == 255 and exits and int(exits[-1]) == TRANSIENT else "failed"
    return Outcome(kind, _message(code, found, int(exits[-1]) if exits else None))


def _blocker(text: str) -> str:
    """Name the process that holds the stage, from DVC's message."""
    busy = re.search(r"'(.*)' is busy", text)
    pid = re.search(r"\(PID (\d+)\): (.*)", text)
    what = busy.group(1) if busy else "a file of this stage"
    who = f"process {pid.group(1)} ({pid.group(2).strip()})" if pid else "another DVC process"
    return f"{what} is held by {who}: wait for it to end, or end it"


def _message(code: int, found: list[str], exit_code: int | None) -> str:
    """The one line that says most: the stage's own `burnish: error:`, else DVC's error, else the last words."""
    own = [line for line in found if line.startswith("burnish: error: ")]
    if own:
        return own[-1].removeprefix("burnish: error: ")
    ending = f"ended with exit code {exit_code if exit_code is not None else code}"
    if code == 128 + signal.SIGKILL or exit_code == -signal.SIGKILL or exit_code == 128 + signal.SIGKILL:
        return "was killed (SIGKILL): by somebody, or by the system because memory ran out"
    from_dvc = [line.removeprefix("ERROR: ") for line in found if line.startswith("ERROR: ")]
    if exit_code is None:
        return from_dvc[-1] if from_dvc else ending
    noise = ("ERROR: ", "Running stage '", "> ", "Use `dvc push`")
    words = [line.strip() for line in found if not line.startswith(noise)]
    return f"{ending}; its last line: {words[-1]}" if words else ending
