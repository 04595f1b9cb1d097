"""DVC's outputs: those of a commit, read from DVC's cache or default remote, and those in the workspace.

The checkout is not touched and DVC's lock is not taken: files are read in place or streamed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Protocol


class OutputUnavailable(Exception):
    """An output cannot be read; the message says why, without naming the revision."""


class Outputs(Protocol):
    """Files below a project's root. All paths are relative to it."""

    def names(self, folder: Path) -> list[str]:
        """Names in a folder, sorted. Raises OutputUnavailable."""
        ...

    def read(self, path: Path) -> bytes:
        """Content of a file. Raises OutputUnavailable."""
        ...

    def source(self) -> str | None:
        """Where the files were read from; None if that is not worth a note."""
        ...


@dataclass(frozen=True)
class WorkspaceOutputs:
    """Outputs in the working directory."""

    root: Path

    def names(self, folder: Path) -> list[str]:
        try:
            return sorted(path.name for path in (self.root / folder).iterdir())
        except OSError as error:
            raise OutputUnavailable(
                f"there is no {folder} here: run `burnish run` or `dvc pull`, or compare a commit such as HEAD"
            ) from error

    def read(self, path: Path) -> bytes:
        try:
            return (self.root / path).read_bytes()
        except OSError as error:
            raise OutputUnavailable(
                f"{path} cannot be read here ({error.strerror}): run `burnish run` or `dvc pull`"
            ) from error

    def source(self) -> str | None:
        return None


@dataclass
class RevisionOutputs:
    """Outputs of a commit, read through DVC."""

    files: Any
    """DVC's file system of that commit."""
    remote: str | None
    fetched: set[str] = field(default_factory=set)
    """Files that came from the remote."""

    def names(self, folder: Path) -> list[str]:
        try:
            paths: list[str] = self.files.ls(str(PurePosixPath(folder)), detail=False)
        except Exception as error:
            raise OutputUnavailable(self._why(folder, error)) from error
        return sorted(PurePosixPath(path).name for path in paths)

    def read(self, path: Path) -> bytes:
        name = str(PurePosixPath(path))
        try:
            is_cached = self.files.repo.cache.local.exists(self.files.info(name)["md5"])
            data: bytes = self.files.read_bytes(name)
        except Exception as error:  # the library of a remote may raise anything
            raise OutputUnavailable(self._why(path, error)) from error
        if not is_cached:
            self.fetched.add(name)
        return data

    def source(self) -> str | None:
        return f"{len(self.fetched)} files from DVC's remote {self.remote!r}" if self.fetched else None

    def _why(self, path: Path, error: Exception) -> str:
        from dvc_data.index import DataIndexDirError

        if isinstance(error, (FileNotFoundError, KeyError, DataIndexDirError)):
            remote = f" nor in its remote {self.remote!r}" if self.remote else ", and there is no default remote"
            return f"{path} is not in DVC's cache{remote}"
        return f"{path} cannot be read ({type(error).__name__}: {' '.join(str(error).split())[:200]})"


@contextmanager
def open_outputs(root: Path, commit: str | None) -> Iterator[Outputs]:
    """The outputs of a commit, or with None those of the workspace.

    Raises:
        OutputUnavailable: DVC cannot read the commit at all.
    """
    if commit is None:
        yield WorkspaceOutputs(root)
        return
    from dvc.repo import Repo

    with ExitStack() as stack:
        try:
            with Repo(str(root)) as here:
                storage = _storage(here)
            # Use today's remotes: those of the commit may be gone, or it may have had none. DVC reads today's cache in
            # any case.
            repo = stack.enter_context(Repo(str(root), config=storage))
            stack.enter_context(repo.switch(commit))
            files = repo.dvcfs
        except Exception as error:
            text = " ".join(str(error).split())[:200]
            raise OutputUnavailable(f"DVC cannot read the commit ({type(error).__name__}: {text})") from error
        yield RevisionOutputs(files, storage["core"].get("remote"))


def _storage(repo: Any) -> dict[str, Any]:
    """The remotes and the name of the default remote, from DVC's configuration of today."""
    name = repo.config["core"].get("remote")
    storage: dict[str, Any] = {"core": {}, "remote": dict(repo.config["remote"])}
    if name:
        storage["core"]["remote"] = name
    return storage
