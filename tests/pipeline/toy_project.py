"""A toy project whose stages take no time, and functions that run commands in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
ORDER = ["download", "left", "right", "train@mono-x", "train@mono-y", "score"]

DVC_YAML = """\
stages:
  score:
    cmd: python step.py score
    deps: [step.py, out/train]
    outs: [out/score]
  download:
    cmd: python step.py download
    params: [a]
    deps: [step.py]
    outs: [out/download]
  left:
    cmd: python step.py left
    deps: [step.py, out/download]
    outs: [out/left]
  right:
    cmd: python step.py right
    deps: [step.py, out/download]
    outs: [out/right]
  train:
    matrix:
      category: [mono]
      detector: [x, y]
    cmd: python step.py train@${item.category}-${item.detector}
    params: ["${item.detector}"]
    deps: [step.py, out/left, out/right]
    outs:
      - out/train/${item.category}-${item.detector}
"""

STEP = """\
import os, pathlib, signal, sys, time
name = sys.argv[1]
with open("journal", "a") as file:
    file.write(name + "\\n")
print("working on", name)
def until(seen):
    while not seen():
        time.sleep(0.01)
if os.environ.get("TOY_LATE") == name:  # ends after `right`, however fast the machine is
    until(lambda: "  right:" in pathlib.Path("dvc.lock").read_text())
if os.environ.get("TOY_BLOCK") == name:
    pathlib.Path("pid").write_text(str(os.getpid()))
    until(lambda: False)
if os.environ.get("TOY_FAIL") == name:
    print("Traceback and so on", file=sys.stderr)
    print("burnish: error: images/7.png is truncated: remove it", file=sys.stderr)
    sys.exit(1)
if os.environ.get("TOY_TRANSIENT") == name and pathlib.Path("journal").read_text().split().count(name) == 1:
    print("burnish: error: a download failed", file=sys.stderr)
    sys.exit(75)
folder = "train/" + name[6:] if name.startswith("train@") else name
path = pathlib.Path("out", folder)
path.parent.mkdir(parents=True, exist_ok=True)
path.write_text(name)
"""


def build(root: Path) -> None:
    """Create the project: git init, dvc init, and the stages."""
    root.mkdir(parents=True)
    (root / "dvc.yaml").write_text(DVC_YAML)
    (root / "params.yaml").write_text("a: 1\nx: 1\n'y': 1\n")
    (root / "step.py").write_text(STEP)
    (root / ".gitignore").write_text("/out\n/data/logs\n.prefect\njournal\npid\n")
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    dvc(root, "init", "-q")
    dvc(root, "config", "core.analytics", "false")
    dvc(root, "config", "core.check_update", "false")


def environment(**extra: str) -> dict[str, str]:
    """The environment without an active virtual environment. `burnish` itself adds this Python to PATH."""
    names = ("PATH", "HOME", "PREFECT_API_URL", "PREFECT_HOME", "TMPDIR")
    kept = {name: os.environ[name] for name in names if name in os.environ}
    return {**kept, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", **extra}


def dvc(root: Path, *arguments: str, **extra: str) -> str:
    """Run plain dvc in the environment of this Python, and return its output."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    command = [sys.executable, "-m", "dvc", *arguments]
    done = subprocess.run(
        command, cwd=root, env=environment(PATH=path, **extra), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def start(root: Path, *arguments: str, **extra: str) -> subprocess.Popen[str]:
    """Start `burnish ...` in the project, with its output in pipes."""
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline", *arguments],
        cwd=root,
        env=environment(**extra),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def burnish(root: Path, *arguments: str, **extra: str) -> tuple[int, str, str]:
    """Run `burnish ...`, and return exit code, stdout and stderr. Pipes must get no control characters."""
    process = start(root, *arguments, **extra)
    out, err = process.communicate()
    for text in (out, err):
        assert not any(ord(c) < 32 and c != "\n" for c in text), repr(text)
    return process.returncode, out, err


def states(out: str) -> dict[str, list[str]]:
    """Stage -> its states in order, from the plain lines of a run."""
    states_of: dict[str, list[str]] = {}
    for line in out.splitlines():
        words = line.split()
        if len(words) >= 3 and words[1] in ORDER:
            states_of.setdefault(words[1], []).append(words[2])
    return states_of


def journal(root: Path) -> list[str]:
    """The stages whose command ran, in the order of their starts. The journal is then deleted."""
    path = root / "journal"
    names = path.read_text().split() if path.exists() else []
    path.unlink(missing_ok=True)
    return names


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not true within {seconds:g} s"
        time.sleep(0.02)


def gone(pid: int) -> bool:
    """Whether a process has ended. A zombie counts as ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return Path("/proc").is_dir() or _gets_no_signal(pid)
    return state == "Z"


def _gets_no_signal(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def copy(template: Path, to: Path) -> Path:
    """Copy a project, so that a test can change it."""
    shutil.copytree(template, to, symlinks=True)
    return to


def hold(root: Path, output: str, pid: int) -> None:
    """Write a lock file by which DVC believes that a process writes this output."""
    entry = {"write": {str(root / output): {"pid": pid, "cmd": "dvc repro by hand"}}, "read": {}}
    (root / ".dvc" / "tmp" / "rwlock").write_text(json.dumps(entry))
