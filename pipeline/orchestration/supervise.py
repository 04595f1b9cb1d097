"""Run one command in a process group of its own that never outlives its owner. Used as a script, standard library only.

    python -I -S supervise.py LIFELINE COMMAND...

LIFELINE is the number of a file descriptor, the read end of a pipe. Its write end is held by the owner alone, so it
closes when the owner closes it or dies, even by kill -9. Then the group gets SIGINT, and after a while SIGTERM, then
SIGKILL. SIGTERM to this script kills the group at once. When the command ends first (also when somebody kills it),
whatever it left running in its group is ended too. Exit code: the command's, or 128 + the signal that ended it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

PATIENCE_S = ((signal.SIGINT, 10.0), (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0))
"""What a group gets in turn, and the seconds that it then has. SIGINT first: DVC and the stages end cleanly on it."""


def group_lives(group: int) -> bool:
    """Whether any process of the group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # macOS says so of a group in which only zombies are left
        return False
    return True


def end_group(group: int) -> None:
    """End a process group, ever less gently, and return when it is gone."""
    for number, seconds in PATIENCE_S:
        if not group_lives(group):
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, number)
        until = time.monotonic() + seconds
        while group_lives(group) and time.monotonic() < until:
            time.sleep(0.02)


def main(arguments: list[str]) -> int:
    lifeline = int(arguments[0])
    # Handlers, not SIG_IGN: a handler is not inherited, so the command starts with the default even where the owner
    # was started in the background with SIGINT ignored.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    child = subprocess.Popen(arguments[1:], process_group=0)

    def kill(*_: object) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)

    def watch() -> None:
        while os.read(lifeline, 64):
            pass
        end_group(child.pid)

    signal.signal(signal.SIGTERM, kill)
    threading.Thread(target=watch, daemon=True).start()
    code = child.wait()
    end_group(child.pid)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    try:
        code = main(sys.argv[1:])
    except OSError as error:
        print(f"burnish: error: {sys.argv[2]} cannot be started: {error}", file=sys.stderr)
        code = 126
    sys.stdout.flush()
    os._exit(code)
