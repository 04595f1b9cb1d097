"""The outputs of DVC at a revision, read from its cache or else from its default remote, and those that lie here.

The checkout is not touched and DVC's lock not taken: files are read where they lie, or streamed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Protocol


class OutputFault(Exception):
    """An output cannot be had; the message says why, without naming the revision."""


class Outputs(Protocol):
    """Files below a project's root."""

    def names(self, folder: Path) -> list[str]:
        """Names in a folder, sorted. Raises OutputFault."""
        ...

    def read(self, path: Path) -> bytes:
        """Raises OutputFault."""
        ...

    def source(self) -> str | None:
        """Where what was read came from, where that is worth saying."""
        ...


@dataclass(frozen=True)
class WorkspaceOutputs:
    """Files as they lie."""

    root: Path

    def names(self, folder: Path) -> list[str]:
        try:
            return sorted(path.name for path in (self.root / folder).iterdir())
        except OSError as error:
            raise OutputFault(
                f"there is no {folder} here: `burnish run` or `dvc pull` brings it, or name a commit (HEAD) instead"
            ) from error

    def read(self, path: Path) -> bytes:
        try:
            return (self.root / path).read_bytes()
        except OSError as error:
            raise OutputFault(
                f"{path} cannot be read here ({error.strerror}): `burnish run` or `dvc pull` brings it"
            ) from error

    def source(self) -> str | None:
        return None


@dataclass
class RevisionOutputs:
    """Outputs of a commit, by DVC."""

    files: Any
    """DVC's file system of that commit."""
    remote: str | None
    fetched: set[str] = field(default_factory=set)

    def names(self, folder: Path) -> list[str]:
        name = str(PurePosixPath(folder))
        try:
            found: list[str] = self.files.ls(name, detail=False)
        except Exception as error:
            raise OutputFault(self._why(folder, error)) from error
        return sorted(PurePosixPath(one).name for one in found)

    def read(self, path: Path) -> bytes:
        name = str(PurePosixPath(path))
        try:
            kept = self.files.repo.cache.local.exists(self.files.info(name)["md5"])
            data: bytes = self.files.read_bytes(name)
        except Exception as error:  # a remote's library raises what it likes
            raise OutputFault(self._why(path, error)) from error
        if not kept:
            self.fetched.add(name)
        return data

    def source(self) -> str | None:
        return f"{len(self.fetched)} files from DVC's remote {self.remote!r}" if self.fetched else None

    def _why(self, path: Path, error: Exception) -> str:
        from dvc_data.index import DataIndexDirError

        if isinstance(error, (FileNotFoundError, KeyError, DataIndexDirError)):
            also = f" nor in its remote {self.remote!r}" if self.remote else ", and there is no default remote"
            return f"{path} is not in DVC's cache{also}"
        return f"{path} cannot be read ({type(error).__name__}: {' '.join(str(error).split())[:200]})"


@contextmanager
def outputs_of(root: Path, commit: str | None) -> Iterator[Outputs]:
    """Outputs of a commit, or with None those that lie here.

    Raises:
        OutputFault: DVC cannot read the commit at all.
    """
    if commit is None:
        yield WorkspaceOutputs(root)
        return
    from dvc.repo import Repo

    with ExitStack() as stack:
        try:
            with Repo(str(root)) as here:
                storage = _storage(here)
            # the remotes of now: those that the commit knew may be gone, and it may have known none (the cache that
            # DVC reads is that of now in any case)
            repo = stack.enter_context(Repo(str(root), config=storage))
            stack.enter_context(repo.switch(commit))
            files = repo.dvcfs
        except Exception as error:
            text = " ".join(str(error).split())[:200]
            raise OutputFault(f"DVC cannot read the commit ({type(error).__name__}: {text})") from error
        yield RevisionOutputs(files, storage["core"].get("remote"))


def _storage(repo: Any) -> dict[str, Any]:
    """The default remote: the part of DVC's configuration that is not the commit's own affair."""
    name = repo.config["core"].get("remote")
    storage: dict[str, Any] = {"core": {}, "remote": dict(repo.config["remote"])}
    if name:
        storage["core"]["remote"] = name
    return storage
