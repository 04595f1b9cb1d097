"""Checks of the project: Git, DVC, parameters, locks, Prefect."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.doctor.checks import Row
from stages.types import UserError


def git(root: Path) -> Iterator[Row]:
    """Repository, commit, and what is not committed."""

    def ask(*arguments: str) -> str:
        command = ["git", *arguments]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=30, check=False)
        if done.returncode != 0:
            raise UserError(done.stderr.strip() or f"git ended with exit code {done.returncode}")
        return done.stdout

    try:
        ask("rev-parse", "--git-dir")
    except FileNotFoundError:
        yield Row("git", "fault", "git is not installed", "install git with the system's package manager")
        return
    except UserError as error:
        yield Row("git", "fault", str(error).splitlines()[0], "git init")
        return
    try:
        commit = ask("log", "-1", "--format=%h %s").strip()
    except UserError:
        yield Row("git", "warn", "no commit yet", "git add . && git commit")
        return
    changed = len(ask("status", "--porcelain").splitlines())
    if changed:
        fix = "git add params.yaml dvc.lock data/metrics && git commit; figures belong to a commit that holds all"
        yield Row("git", "warn", f"{commit}; {changed} files are changed or new", fix)
    else:
        yield Row("git", "ok", commit)


def dvc(root: Path) -> Iterator[Row]:
    """DVC project, graph, lock file, and how its cache hands out files."""
    from pipeline.orchestration.graph import read_graph

    if not (root / ".dvc").is_dir():
        yield Row("dvc", "fault", f"no .dvc in {root}", "dvc init (after git init)")
        return
    try:
        graph = read_graph(root, check=False)
        yield Row("dvc graph", "ok", f"{len(graph.order)} stages")
    except UserError as error:
        yield Row("dvc graph", "fault", str(error), "mend what it names; for a damaged dvc.lock: git checkout dvc.lock")
        return
    from dvc.config import Config
    from dvc.dirs import site_cache_dir

    config: dict[str, Any] = Config(str(root / ".dvc"))["cache"]
    types = config.get("type") or ["reflink", "copy"]
    folder = Path(config.get("dir") or root / ".dvc" / "cache")
    found = f"type {','.join(types)}; {_links(root, folder)}"
    if not os.access(folder if folder.exists() else root / ".dvc", os.W_OK):
        yield Row(
            "dvc cache", "fault", f"{folder} cannot be written", f"chown or chmod it, or dvc cache dir NEW ({found})"
        )
    elif {"hardlink", "symlink"} & set(types):
        fix = "dvc config cache.type reflink,copy: a linked output that something appends to spoils the cache"
        yield Row("dvc cache", "warn", found, fix)
    else:
        yield Row("dvc cache", "ok", f"{found}; state in {site_cache_dir()}")


def _links(root: Path, cache: Path) -> str:
    """Whether files come out of the cache without being copied."""
    from dvc_objects.fs.system import reflink

    if not cache.exists():
        cache = root / ".dvc"
    with tempfile.TemporaryDirectory(dir=cache) as one, tempfile.TemporaryDirectory(dir=root / ".dvc") as other:
        source, target = Path(one, "source"), Path(other, "target")
        source.write_bytes(b"burnish")
        try:
            reflink(str(source), str(target))  # type: ignore[no-untyped-call, unused-ignore]
        except OSError:
            return "this disk has no reflinks, so files are copied"
    return "this disk has reflinks, so copies cost no room"


def parameters(root: Path) -> Iterator[Row]:
    """params.yaml, as the stages would read it."""
    if not (root / "params.yaml").is_file():
        yield Row("parameters", "warn", "no params.yaml")
        return
    from pipeline.project.params import load_params

    try:
        load_params()
    except UserError as error:
        yield Row("parameters", "fault", str(error), "mend it in params.yaml")
    else:
        yield Row("parameters", "ok", "params.yaml is valid")


def locks(root: Path) -> Iterator[Row]:
    """Locks of runs: those at work now, and those that a killed process left."""
    import psutil

    from pipeline.orchestration.run_lock import lock_path

    working = []
    if lock_path(root).is_file():
        with lock_path(root).open("r", encoding="ascii") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                working.append(f"burnish run (process {file.read().strip()})")
    path = root / ".dvc" / "tmp" / "rwlock"
    try:
        held = json.loads(path.read_text("utf-8")) if path.is_file() else {}
        writers = list(held.get("write", {}).values())
        owners = [*writers, *(one for some in held.get("read", {}).values() for one in some)]
        pids = sorted({int(owner["pid"]) for owner in owners})
    except (ValueError, KeyError, TypeError, AttributeError):
        yield Row("locks", "fault", f"{path} is damaged", f"end all DVC processes, then rm {path}")
        return
    alive = [pid for pid in pids if psutil.pid_exists(pid)]
    working += [f"DVC (process {pid})" for pid in alive]
    if working:
        yield Row("locks", "warn", f"at work in this project: {', '.join(working)}", "wait for it, or end it: kill PID")
    elif pids:
        yield Row("locks", "ok", f"{len(pids)} left by killed processes; DVC drops them at its next run")
    else:
        yield Row("locks", "ok", "none held")


def prefect(root: Path) -> Iterator[Row]:
    """Where Prefect keeps its things, and which server a run would use."""
    from pipeline.orchestration import server

    server.configure(root)
    from prefect.settings import PREFECT_API_URL, PREFECT_HOME

    home = Path(PREFECT_HOME.value())
    writable = next(folder for folder in (home, *home.parents) if folder.exists())
    if not os.access(writable, os.W_OK):
        yield Row("prefect home", "fault", f"{home} cannot be written", "chown or chmod it, or set PREFECT_HOME")
    else:
        yield Row("prefect home", "ok", str(home))
    api = PREFECT_API_URL.value()
    if not api:
        yield Row("prefect server", "ok", "none named: each run starts a temporary one and ends it")
    elif server.answers(api):
        yield Row("prefect server", "ok", f"{api} answers")
    else:
        fix = "start it (prefect server start), or unset PREFECT_API_URL: a run then starts its own"
        yield Row("prefect server", "fault", f"{api} does not answer", fix)
