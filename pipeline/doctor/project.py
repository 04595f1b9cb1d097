"""Checks of the project: Git, DVC, parameters, locks, Prefect."""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.doctor.checks import Finding
from pipeline.project.faults import remedy_for
from pipeline.project.git import git, git_problem
from pipeline.project.proxies import describe_proxies, unusable_proxies
from stages.types import UserError


def check_git(root: Path) -> Iterator[Finding]:
    """The repository, its commit, and changes that are not committed."""
    if problem := git_problem(root):
        yield Finding("git", "fault", problem.what, problem.fix)
        return
    commit = git(root, "log", "-1", "--format=%h %s")
    changed = len(git(root, "status", "--porcelain").splitlines())
    if changed:
        fix = "git add params.yaml dvc.lock data/metrics && git commit; only then can the metrics be computed again"
        yield Finding("git", "warn", f"{commit}; {changed} files are changed or new", fix)
    else:
        yield Finding("git", "ok", commit)


def check_dvc(root: Path) -> Iterator[Finding]:
    """The DVC project, its graph and lock file, and how files get from its cache into the workspace."""
    from pipeline.orchestration.graph import read_graph

    if not (root / ".dvc").is_dir():
        yield Finding("dvc", "fault", f"no .dvc in {root}", "dvc init (after git init)")
        return
    try:
        graph = read_graph(root, check=False)
        yield Finding("dvc graph", "ok", f"{len(graph.order)} stages")
    except OSError as error:
        yield Finding("dvc graph", "fault", f"{error.filename}: {error.strerror}", "see the row of the project folder")
        return
    except UserError as error:
        fix = "correct the file that it names; for a damaged dvc.lock: git checkout dvc.lock"
        yield Finding("dvc graph", "fault", str(error), "see the row of git" if "git repository" in str(error) else fix)
        return
    from dvc.config import Config
    from dvc.dirs import site_cache_dir

    config: dict[str, Any] = Config(str(root / ".dvc"))["cache"]
    link_types = config.get("type") or ["reflink", "copy"]
    folder = Path(config.get("dir") or root / ".dvc" / "cache")
    details = f"type {','.join(link_types)}; {_reflink_support(root, folder)}"
    if not os.access(folder if folder.exists() else root / ".dvc", os.W_OK):
        yield Finding(
            "dvc cache", "fault", f"{folder} cannot be written", f"chown or chmod it, or dvc cache dir NEW ({details})"
        )
    elif {"hardlink", "symlink"} & set(link_types):
        fix = "dvc config cache.type reflink,copy: a program that appends to a linked output damages the cache"
        yield Finding("dvc cache", "warn", details, fix)
    else:
        yield Finding("dvc cache", "ok", f"{details}; state in {site_cache_dir()}")


def _reflink_support(root: Path, cache: Path) -> str:
    """Says whether files get from the cache into the workspace without a copy."""
    from dvc_objects.fs.system import reflink

    if not cache.exists():
        cache = root / ".dvc"
    with (
        tempfile.TemporaryDirectory(dir=cache) as cache_folder,
        tempfile.TemporaryDirectory(dir=root / ".dvc") as workspace_folder,
    ):
        source, target = Path(cache_folder, "source"), Path(workspace_folder, "target")
        source.write_bytes(b"burnish")
        try:
            reflink(str(source), str(target))  # type: ignore[no-untyped-call, unused-ignore]
        except OSError:
            return "this disk has no reflinks, so files are copied"
    return "this disk has reflinks, so copies take no space"


def check_parameters(root: Path) -> Iterator[Finding]:
    """Whether params.yaml is valid."""
    if not (root / "params.yaml").is_file():
        yield Finding("parameters", "warn", "no params.yaml")
        return
    from pipeline.project.params import load_params

    try:
        load_params()
    except UserError as error:
        yield Finding("parameters", "fault", str(error), "correct it in params.yaml")
    else:
        yield Finding("parameters", "ok", "params.yaml is valid")


def check_locks(root: Path) -> Iterator[Finding]:
    """Locks of processes that run now, and locks of DVC that killed processes left behind."""
    import psutil

    running = _running_burnish(root)
    path = root / ".dvc" / "tmp" / "rwlock"
    try:
        pids = _lock_holders(path)
    except (ValueError, KeyError, TypeError, AttributeError):
        yield Finding("locks", "fault", f"{path} is damaged", f"end all DVC processes, then rm {path}")
        return
    running += [f"DVC (process {pid})" for pid in pids if psutil.pid_exists(pid)]
    if running:
        details = f"running in this project: {', '.join(running)}"
        yield Finding("locks", "warn", details, "wait until it ends, or end it: kill PID")
    elif pids:
        yield Finding("locks", "ok", f"{len(pids)} left by killed processes; DVC removes them at its next run")
    else:
        yield Finding("locks", "ok", "none held")


def _running_burnish(root: Path) -> list[str]:
    """A description of the `burnish run` that holds the lock of the project; empty if no run does."""
    from pipeline.orchestration.run_lock import lock_path

    if lock_path(root).is_file():
        with lock_path(root).open("r", encoding="ascii") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return [f"burnish run (process {file.read().strip()})"]
    return []


def _lock_holders(path: Path) -> list[int]:
    """Ids of the processes that hold files of the project, from the file in which DVC keeps these locks."""
    locks = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    holders = list(locks.get("write", {}).values())
    for readers in locks.get("read", {}).values():
        holders += readers
    return sorted({int(holder["pid"]) for holder in holders})


def check_proxies(root: Path) -> Iterator[Finding]:
    """Whether the proxies of the environment can be used. Loopback never goes through one."""
    unusable = unusable_proxies(os.environ)
    for name, fix in unusable.items():
        yield Finding("proxy", "warn", f"{name} cannot be used", fix)
    if not unusable:
        yield Finding("proxy", "ok", f"set: {describe_proxies()}; never for this machine itself")


def check_writable(root: Path) -> Iterator[Finding]:
    """Whether the folders can be written in which commands keep locks, logs and results."""
    for name in (".", ".dvc/tmp", "data", "data/cache", "data/logs", ".prefect"):
        folder = root / name
        existing = next(place for place in (folder, *folder.parents) if place.exists() or place.is_symlink())
        if not existing.is_dir():
            what = f"a link to {existing.readlink()}, which is not there" if existing.is_symlink() else "a file"
            fix = f"a folder belongs there: mount the disk that is meant, or mv {existing} {existing}.old"
            yield Finding("project folder", "fault", f"{existing} is {what}", fix)
            return
        try:
            with tempfile.TemporaryFile(dir=existing):
                pass
        except OSError as error:
            yield Finding("project folder", "fault", f"{existing}: {error.strerror}", remedy_for(error, existing))
            return
    yield Finding("project folder", "ok", f"{root} can be written")


def check_prefect(root: Path) -> Iterator[Finding]:
    """The folder in which Prefect keeps its files, and the server that a run would use."""
    from pipeline.orchestration.server_discovery import answers, refusal
    from pipeline.orchestration.server_settings import configure_prefect

    configure_prefect(root)
    from prefect.settings import PREFECT_API_URL, PREFECT_HOME

    home = Path(PREFECT_HOME.value())
    existing = next(folder for folder in (home, *home.parents) if folder.exists())
    if not os.access(existing, os.W_OK):
        yield Finding("prefect home", "fault", f"{home} cannot be written", "chown or chmod it, or set PREFECT_HOME")
    else:
        yield Finding("prefect home", "ok", str(home))
    api = PREFECT_API_URL.value()
    if not api:
        yield Finding("prefect server", "ok", "PREFECT_API_URL is not set: each run starts a temporary server")
    elif answers(api) and (why := refusal(api)):
        yield Finding("prefect server", "fault", f"{api} answers, but {why.partition(':')[0]}", why.partition(": ")[2])
    elif answers(api):
        yield Finding("prefect server", "ok", f"{api} answers, and may be used")
    else:
        fix = "start it (prefect server start), or unset PREFECT_API_URL: a run then starts a server of its own"
        yield Finding("prefect server", "fault", f"{api} does not answer", fix)
