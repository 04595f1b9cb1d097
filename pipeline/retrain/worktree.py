"""The worktree in which challengers are made: a checkout of its own that shares the project's caches.

The developer's checkout is read (the pool of images, before the first champion has one of its own), never written.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from pipeline.orchestration import server
from pipeline.orchestration.processes import Group, lines, tail
from pipeline.project import paths
from pipeline.project.git import asks, commit, git
from pipeline.project.params import Params, load_params
from pipeline.project.root import command_environment
from pipeline.retrain.inbox import Drop, place
from stages.types import UserError

STAGE_LINE = re.compile(r"\d\d:\d\d:\d\d  .*  (running|done|failed|skipped)\b")
LOOK_S = 0.2
"""Between two looks into the log of a run."""
TRACKED = ("dvc.lock", str(paths.METRICS_DIR))
"""What a promotion commits, beside the pool of images."""


class Worktree:
    """`data/retrain/worktree` of a project."""

    params: Params
    """Those of the commit that was prepared."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / paths.WORKTREE

    @property
    def pool(self) -> Path:
        """The folder of images, `data.folder`.

        Raises:
            UserError: it lies outside the project, where no commit can tell what is in it.
        """
        folder = Path(self.params.data.folder)
        if folder.is_absolute() or ".." in folder.parts:
            raise UserError(
                f"data.folder = {str(folder)!r} lies outside the project; retraining adds images to it and commits "
                "what is in it, so put it inside, for example data/own"
            )
        return self.folder / folder

    def prepare(self, base: str) -> None:
        """Check out a commit with all its outputs and images; whatever an attempt before left is gone then.

        Raises:
            UserError: the commit holds no pipeline, or git or DVC fail.
        """
        if not (self.folder / ".git").is_file() or asks(self.folder, "rev-parse", "HEAD") is None:
            shutil.rmtree(self.folder, ignore_errors=True)
            git(self.root, "worktree", "prune")
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            git(self.root, "worktree", "add", "--quiet", "--force", "--detach", str(self.folder), base)
        for lock in Path(git(self.folder, "rev-parse", "--absolute-git-dir")).glob("*.lock"):
            lock.unlink()  # of a killed git: whoever calls us holds the lock of retraining
        git(self.folder, "checkout", "--quiet", "--force", "--detach", base)
        git(self.folder, "clean", "--quiet", "--force", "-d")
        if not (self.folder / "dvc.yaml").is_file():
            raise UserError(f"commit {base[:12]} holds no dvc.yaml: nothing can be retrained from it")
        self.params = load_params(self.folder / paths.PARAMS)
        self._share_caches()
        self._restore_pool()
        self._dvc("checkout", "--force", "--allow-missing")

    def fetch_outputs(self) -> None:
        """All outputs of the commit, from DVC's cache or else its remote.

        Raises:
            UserError: they are in neither.
        """
        try:
            self._dvc("checkout", "--force")
        except UserError:
            self._dvc("pull", "--force")

    def take(self, inbox: Path, drops: Iterable[Drop]) -> dict[str, str]:
        """Copy files of the inbox into the pool; where each went, below the pool, by its path in the inbox.

        Raises:
            UserError: one is no longer what it was when we looked.
        """
        went = {}
        for drop in drops:
            data = (inbox / drop.path).read_bytes()
            if hashlib.sha256(data).hexdigest() != drop.sha256:
                raise UserError(f"{inbox / drop.path} changed while it was taken in; the next run looks at it again")
            target = place(drop, self.pool)
            path = self.pool / target
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            went[drop.path] = target.as_posix()
        return went

    @property
    def grows(self) -> bool:
        """Whether new images can be added: to one's own folder, not to a published data set."""
        return self.params.data.source == "folder"

    def track_pool(self) -> None:
        """Let DVC track the pool, so that a commit says which images are in it."""
        if not self.grows:
            return
        name = self._pool_name()
        if asks(self.folder, "ls-files", "--", name):
            git(self.folder, "rm", "--quiet", "-r", "--cached", "--", name)
        self._dvc("add", name)

    def run(self, log: Path, timeout_s: float, say: Callable[[str], None]) -> None:
        """`burnish run` in the worktree, on the Prefect server of the project; `say` gets the progress of its stages.

        Raises:
            UserError: it failed, or took longer than that.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        environment = {"PREFECT_HOME": str(server.home(self.root)), **command_environment()}
        with log.open("wb") as output:
            group = Group([sys.executable, "-m", "pipeline", "run"], output, self.folder, environment)
            late = threading.Event()

            def end() -> None:
                late.set()
                group.stop()

            timer = threading.Timer(timeout_s, end)
            timer.start()
            try:
                _tell_progress(log, group, say)
                code = group.wait()
            finally:
                timer.cancel()
                group.stop()
        if late.is_set():
            raise UserError(f"the pipeline was ended after retrain.timeout_minutes = {timeout_s / 60:g} (log: {log})")
        if code:
            words = [line for line in lines(tail(log)) if "error" in line.lower()] or lines(tail(log)) or ["no output"]
            raise UserError(f"the pipeline failed: {words[-1].removeprefix('burnish: error: ')} (log: {log})")

    def commit(self, message: str) -> str:
        """Commit the results and what is in the pool; the commit."""
        pool = (f"{self._pool_name()}.dvc", str(Path(self._pool_name()).parent / ".gitignore")) if self.grows else ()
        for path in (*TRACKED, *pool):
            if (self.folder / path).exists():
                git(self.folder, "add", "--force", "--", path)
        return commit(self.folder, message)

    def _pool_name(self) -> str:
        return self.pool.relative_to(self.folder).as_posix()

    def _restore_pool(self) -> None:
        """The images of the commit: DVC's where it tracks them, else those that lie in the developer's checkout."""
        if not self.grows and Path(self.params.data.folder).is_absolute():
            return  # it is read where it lies
        pointer = self.pool.with_name(f"{self.pool.name}.dvc")
        if pointer.is_file():
            name = f"{self._pool_name()}.dvc"
            try:
                self._dvc("checkout", "--force", name)
            except UserError:  # not in the cache of this machine
                self._dvc("pull", "--force", name)
            return
        shutil.rmtree(self.pool, ignore_errors=True)
        source = self.root / self.pool.relative_to(self.folder)
        if not source.is_dir():
            raise UserError(f"there is no {source}: put the first images there, and run `burnish run` once")
        shutil.copytree(source, self.pool)

    def _share_caches(self) -> None:
        """The project's DVC cache and remotes, and the item cache where it is a folder of the project."""
        local = self.root / ".dvc" / "config.local"
        if local.is_file():
            shutil.copyfile(local, self.folder / ".dvc" / "config.local")
        cache = self._dvc("cache", "dir", root=self.root).splitlines()[-1]
        self._dvc("cache", "dir", "--local", cache)
        items = Path(self.params.compute.cache)
        if "://" not in str(items) and not items.is_absolute():
            (self.root / items).mkdir(parents=True, exist_ok=True)
            link = self.folder / items
            if not link.is_symlink():
                shutil.rmtree(link, ignore_errors=True)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(self.root / items, target_is_directory=True)

    def _dvc(self, *arguments: str, root: Path | None = None) -> str:
        """What a DVC command prints. Never with --quiet, which hides its errors as well."""
        command = [sys.executable, "-m", "dvc", *arguments]
        environment = command_environment() | {"DVC_NO_ANALYTICS": "true"}
        folder = root or self.folder
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            said = lines(done.stderr) or lines(done.stdout) or [f"exit code {done.returncode}, and it said nothing"]
            words = next((line for line in said if line.startswith("ERROR: ")), said[-1])
            raise UserError(f"dvc {arguments[0]} in {folder}: {words.removeprefix('ERROR: ')}")
        return done.stdout.strip()


def _tell_progress(log: Path, group: Group, say: Callable[[str], None]) -> None:
    """Pass on the lines of the table of stages until the command has ended."""
    with log.open(encoding="utf-8", errors="replace") as file:
        rest, running = "", True
        while running:
            running = group.running()
            rest += file.read()
            *whole, rest = rest.split("\n")
            for line in whole:
                if STAGE_LINE.match(line):
                    say(f"  {line.rstrip()}")
            if running:
                time.sleep(LOOK_S)


def absolute(root: Path, folder: str) -> Path:
    """A folder that params.yaml names, from the project's root."""
    return Path(os.path.normpath(root / folder))
