"""Process groups under a supervisor, and stages that run in them as `dvc repro --single-item STAGE`."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

from pipeline.orchestration.logs import read_tail
from pipeline.orchestration.outcome import Outcome, classify_outcome
from pipeline.project.root import command_environment

SUPERVISOR = Path(__file__).with_name("supervise.py")


class ProcessGroup:
    """One command with all its child processes, which end when this process ends, however it ends.

    The command runs under `supervise.py` in a session of its own, so that Ctrl-C in the terminal reaches only this
    process.
    """

    def __init__(self, command: list[str], output: IO[bytes], cwd: Path, environment: dict[str, str]) -> None:
        lifeline, self._our_end = os.pipe()  # the supervisor ends the group when our end of the pipe closes
        self._lock = threading.RLock()  # reentrant: a signal handler may call stop() while this thread holds the lock
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(SUPERVISOR), str(lifeline), *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=environment,
                pass_fds=(lifeline,),
                start_new_session=True,
            )
        except BaseException:
            os.close(self._our_end)
            raise
        finally:
            os.close(lifeline)

    def stop(self, *, now: bool = False) -> None:
        """Ask the group to end (SIGINT, then SIGTERM, then SIGKILL), or kill it at once if `now`. Does not wait."""
        with self._lock:
            if self._our_end >= 0:
                os.close(self._our_end)
                self._our_end = -1
        if now:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)

    def running(self) -> bool:
        return self._process.poll() is None

    def wait(self) -> int:
        """Wait until every process of the group has ended, and return the exit code of the command.

        If a signal ended the command, the exit code is 128 + the number of the signal.
        """
        code = self._process.wait()
        self.stop()
        if code < 0:  # the supervisor itself was killed
            _kill_session(self._process.pid)
            return 128 - code
        return code


def _kill_session(session: int) -> None:
    """Kill every process of a session whose leader has ended."""
    import psutil

    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            if os.getsid(process.pid) == session:
                process.kill()


class StageProcesses:
    """Runs stages as processes. `run` may be called from several threads."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._environment = command_environment()
        self._groups: set[ProcessGroup] = set()
        self._lock = threading.RLock()
        self._stopped = False

    def run(self, stage: str, log: Path, *, force: bool = False, again: bool = False) -> Outcome:
        """Bring one stage up to date, and return when its process has ended.

        Args:
            stage: its name as `dvc repro` takes it.
            log: file that receives all output of DVC and of the stage.
            force: run the stage even if nothing changed.
            again: append to `log`, because it holds an earlier attempt.
        """
        # --wait-for-lock: DVC takes its global lock again after the command has ended. Without the option it gives up
        # after 3 s, and the result of the stage is lost. Other DVC processes hold the lock for short times only.
        command = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item"]
        command += ["--force"] if force else []
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab" if again else "wb") as output:
            start = output.tell()
            with self._lock:
                if self._stopped:
                    return Outcome("failed", "interrupted")
                group = ProcessGroup([*command, "--", stage], output, self.root, self._environment)
                self._groups.add(group)
            try:
                code = group.wait()
            finally:
                with self._lock:
                    self._groups.discard(group)
        if self._stopped and code != 0:
            return Outcome("failed", "interrupted")
        return classify_outcome(code, read_tail(log, start))

    def stop(self, *, now: bool = False) -> None:
        """Ask all running stages to end and start no more; kill them at once if `now`."""
        with self._lock:
            self._stopped = True
            for group in self._groups:
                group.stop(now=now)
