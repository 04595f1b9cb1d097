"""A script that runs one command in a process group of its own, which never outlives its owner.

    python -I -S supervise.py LIFELINE COMMAND...

LIFELINE is the number of a file descriptor: the read end of a pipe. Only the owner has the write end, so it closes when
the owner closes it or dies, even by kill -9. The group then gets SIGINT, after a while SIGTERM, and at last SIGKILL.
SIGTERM to this script kills the group at once. If the command ends first (also if somebody kills it), the script ends
every process that is still in the group. Exit code: that of the command, or 128 + the signal that ended the command.

The script imports the standard library only, so that it starts fast.
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
"""(signal, seconds to wait after it), in this order. SIGINT is first because DVC and the stages end cleanly on it."""


def group_exists(group: int) -> bool:
    """Whether the group has a process."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # on macOS: the group has only zombies
        return False
    return True


def end_group(group: int) -> None:
    """Send the signals of `PATIENCE_S` to a process group until it has no process."""
    for number, seconds in PATIENCE_S:
        if not group_exists(group):
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, number)
        until = time.monotonic() + seconds
        while group_exists(group) and time.monotonic() < until:
            time.sleep(0.02)


def main(arguments: list[str]) -> int:
    lifeline = int(arguments[0])
    # Handlers instead of SIG_IGN: the command does not inherit them. So it starts with the default action, even if the
    # owner was started in the background with SIGINT ignored.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    child = subprocess.Popen(arguments[1:], process_group=0)

    def kill_group(*_: object) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)

    def watch_lifeline() -> None:
        while os.read(lifeline, 64):
            pass
        end_group(child.pid)

    signal.signal(signal.SIGTERM, kill_group)
    threading.Thread(target=watch_lifeline, daemon=True).start()
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
