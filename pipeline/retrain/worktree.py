"""The git worktree in which challengers are made. It shares the project's caches.

The developer's checkout is never written. It is read only for the first champion: images that DVC does not track yet
are copied from it.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable
from pathlib import Path

from pipeline.project import paths
from pipeline.project.git import commit, git, git_output_or_none, git_problem
from pipeline.project.params import Params, load_params
from pipeline.retrain.dvc_command import run_dvc
from pipeline.retrain.inbox import InboxFile, pool_path
from stages.types import UserError

TRACKED = ("dvc.lock", str(paths.METRICS_DIR))
"""What a promotion commits, beside the pool of images."""


class Worktree:
    """`data/retrain/worktree` of a project."""

    params: Params
    """The parameters of the commit that was prepared."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / paths.WORKTREE

    @property
    def pool(self) -> Path:
        """The pool of images: the folder `data.folder`.

        Raises:
            UserError: the folder is outside the project, so that a commit cannot say what it contains.
        """
        folder = Path(self.params.data.folder)
        if folder.is_absolute() or ".." in folder.parts:
            raise UserError(
                f"data.folder = {str(folder)!r} is outside the project. Retraining adds images to it and commits its "
                "contents, so it must be inside, for example data/own"
            )
        return self.folder / folder

    @property
    def accepts_images(self) -> bool:
        """Whether new images can be added. They cannot be added to a published data set."""
        return self.params.data.source == "folder"

    def prepare(self, base: str) -> None:
        """Check out a commit with its outputs and images, and remove other changes of an earlier run.

        Files that git ignores are kept: the caches and checkpoints in data/cache.

        Raises:
            UserError: the commit has no pipeline, or git or DVC fail.
        """
        problem = git_problem(self.folder) if (self.folder / ".git").is_file() else None
        if problem and problem.kind in ("refused", "not installed"):  # nothing is wrong with the worktree
            raise UserError(str(problem))
        if problem or not (self.folder / ".git").is_file():
            self._make_anew(base)
        self._restore_cache()
        for lock in Path(git(self.folder, "rev-parse", "--absolute-git-dir")).glob("*.lock"):
            lock.unlink()  # of a killed git: no other git runs here, because the caller holds the lock of retraining
        git(self.folder, "checkout", "--quiet", "--force", "--detach", base)
        git(self.folder, "clean", "--quiet", "--force", "-d")
        if not (self.folder / "dvc.yaml").is_file():
            raise UserError(f"commit {base[:12]} has no dvc.yaml: nothing can be retrained from it")
        self.params = load_params(self.folder / paths.PARAMS)
        self._share_caches()
        self._restore_pool()
        run_dvc(self.folder, "checkout", "--force", "--allow-missing")

    def _make_anew(self, base: str) -> None:
        """Replace a worktree that is absent or damaged. Its cache goes aside, because it took time."""
        cache = self.folder / paths.CACHE
        if cache.is_dir() and not cache.is_symlink() and not self._cache_aside.exists():
            cache.rename(self._cache_aside)
        shutil.rmtree(self.folder, ignore_errors=True)
        git(self.root, "worktree", "prune")
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        git(self.root, "worktree", "add", "--quiet", "--force", "--detach", str(self.folder), base)

    def _restore_cache(self) -> None:
        """Put back a cache that is aside, also if a kill came before."""
        cache = self.folder / paths.CACHE
        if self._cache_aside.exists() and not cache.exists():
            cache.parent.mkdir(exist_ok=True)
            self._cache_aside.rename(cache)

    @property
    def _cache_aside(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}-cache")

    def fetch_outputs(self) -> None:
        """Get all outputs of the commit from DVC's cache, else from its remote.

        Raises:
            UserError: neither has them.
        """
        try:
            run_dvc(self.folder, "checkout", "--force")
        except UserError:
            run_dvc(self.folder, "pull", "--force")

    def add_to_pool(self, inbox: Path, files: Iterable[InboxFile]) -> dict[str, str]:
        """Copy files of the inbox into the pool; returns path in the inbox -> path in the pool.

        Raises:
            UserError: a file changed since it was scanned.
        """
        added = {}
        for file in files:
            data = (inbox / file.path).read_bytes()
            if hashlib.sha256(data).hexdigest() != file.sha256:
                raise UserError(f"{inbox / file.path} changed while it was taken in; the next run will read it again")
            target = pool_path(file, self.pool)
            path = self.pool / target
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            added[file.path] = target.as_posix()
        return added

    def track_pool(self) -> None:
        """Let DVC track the pool, so that a commit records which images are in it."""
        if not self.accepts_images:
            return
        name = self._pool_name()
        if git_output_or_none(self.folder, "ls-files", "--", name):
            git(self.folder, "rm", "--quiet", "-r", "--cached", "--", name)
        run_dvc(self.folder, "add", name)

    def commit(self, message: str) -> str:
        """Commit the results and the pool; returns the commit."""
        tracked = [*TRACKED]
        if self.accepts_images:
            name = self._pool_name()
            tracked += [f"{name}.dvc", str(Path(name).parent / ".gitignore")]
        for path in tracked:
            if (self.folder / path).exists():
                git(self.folder, "add", "--force", "--", path)
        return commit(self.folder, message)

    def _pool_name(self) -> str:
        return self.pool.relative_to(self.folder).as_posix()

    def _restore_pool(self) -> None:
        """Put the images of the commit into the pool: from DVC if it tracks them, else from the checkout."""
        if not self.accepts_images and Path(self.params.data.folder).is_absolute():
            return  # a published data set is read where it is
        pointer = self.pool.with_name(f"{self.pool.name}.dvc")
        if pointer.is_file():
            name = f"{self._pool_name()}.dvc"
            try:
                run_dvc(self.folder, "checkout", "--force", name)
            except UserError:  # not in the cache of this machine
                run_dvc(self.folder, "pull", "--force", name)
            return
        shutil.rmtree(self.pool, ignore_errors=True)
        source = self.root / self.pool.relative_to(self.folder)
        if not source.is_dir():
            raise UserError(f"there is no {source}: put the first images there, and run `burnish run` once")
        shutil.copytree(source, self.pool)

    def _share_caches(self) -> None:
        """Use the project's DVC cache and remotes, and its item cache if that is a folder of the project."""
        local = self.root / ".dvc" / "config.local"
        if local.is_file():
            shutil.copyfile(local, self.folder / ".dvc" / "config.local")
        cache = run_dvc(self.root, "cache", "dir").splitlines()[-1]
        run_dvc(self.folder, "cache", "dir", "--local", cache)
        item_cache = Path(self.params.compute.cache)
        if "://" not in str(item_cache) and not item_cache.is_absolute():
            (self.root / item_cache).mkdir(parents=True, exist_ok=True)
            link = self.folder / item_cache
            if not link.is_symlink():
                shutil.rmtree(link, ignore_errors=True)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(self.root / item_cache, target_is_directory=True)
