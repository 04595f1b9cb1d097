"""The inbox: which files are new and complete, which images are known already, and which files stay, and why."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pipeline.project import paths
from pipeline.project.params import Params
from stages.download.config import DataConfig
from stages.download.examine import State, examine_image, max_bytes_for, read_unchanged, state_of
from stages.download.sources.files import images_below, is_image
from stages.download.sources.globs import regex
from stages.images import ImageFault

UNFINISHED = (".part", ".tmp", ".crdownload", ".filepart")
"""Suffixes of files that a program is still writing. Hidden files are ignored as well."""


@dataclass(frozen=True)
class InboxFile:
    """A file of the inbox that can be taken in."""

    path: str
    """Relative to the inbox, with '/' between parts."""
    sha256: str
    kind: str
    """`normal`, `defect` or `mask`."""
    category: str


@dataclass(frozen=True)
class InboxScan:
    """The files in the inbox."""

    new: tuple[InboxFile, ...] = ()
    known: tuple[InboxFile, ...] = ()
    """With the same content and kind as an image of the pool, or as a file in `new`."""
    skipped_files: Mapping[str, str] = field(default_factory=dict)
    """Path -> why the file stays in the inbox."""


KnownImages = Mapping[str, str]
"""sha256 -> `normal` or `defect`, of the images in the pool."""


def inbox_folder(root: Path, params: Params) -> Path:
    """The folder of the parameter `retrain.inbox`, which may be relative to the project's root."""
    return Path(os.path.normpath(root / params.retrain.inbox))


def may_hold_images(folder: Path) -> bool:
    """Whether there is an image file, complete or not."""
    return folder.is_dir() and any(True for _ in images_below(folder))


def unsupported_files(folder: Path) -> list[str]:
    """Files that are not images, except hidden files and those still being written."""
    if not folder.is_dir():
        return []
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    visible = (path.as_posix() for path in files if not any(part.startswith(".") for part in path.parts))
    return sorted(path for path in visible if not is_image(folder / path) and not path.endswith(UNFINISHED))


def scan_inbox(folder: Path, config: DataConfig, known: KnownImages, wait: Callable[[], None]) -> InboxScan:
    """Read the files in the inbox.

    Args:
        wait: called between two looks at every file. A file that changes meanwhile is still being written, whatever
            its time says.

    Raises:
        UserError: the folder cannot be read.
    """
    if not may_hold_images(folder):
        return InboxScan()
    before = dict(_states(folder))
    wait()
    new: list[InboxFile] = []
    known_files: list[InboxFile] = []
    skipped_files: dict[str, str] = {}
    kinds = dict(known)
    for path, state in sorted(_states(folder)):
        file = _read(folder, path, config) if before.get(path) == state else "it is still being written"
        if isinstance(file, str):
            skipped_files[path] = file
        elif file.kind != "mask" and kinds.get(file.sha256, file.kind) != file.kind:
            skipped_files[path] = f"the same image is known as {kinds[file.sha256]}"
        elif file.sha256 in kinds:
            known_files.append(file)
        else:
            new.append(file)
            if file.kind != "mask":  # masks of different images may be equal
                kinds[file.sha256] = file.kind
    return InboxScan(tuple(new), tuple(known_files), skipped_files)


def make_wait(seconds: float) -> Callable[[], None]:
    """A function that waits so long."""
    return lambda: time.sleep(seconds)


def pool_path(file: InboxFile, pool: Path) -> PurePosixPath:
    """Path for a file below the pool: its path in the inbox, with part of its digest if that path is taken."""
    path = PurePosixPath(file.path)
    return path.with_name(f"{path.stem}-{file.sha256[:8]}{path.suffix}") if (pool / path).exists() else path


def move_out(root: Path, kind: str, run: str, inbox: Path, files: Mapping[str, str]) -> None:
    """Move files from the inbox to data/retrain/KIND/RUN.

    Args:
        files: path below the inbox -> sha256. A file whose content has changed is another file and stays.
    """
    for name, sha256 in files.items():
        source, target = inbox / name, root / paths.RETRAIN / kind / run / name
        if not source.is_file() or hashlib.sha256(source.read_bytes()).hexdigest() != sha256:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(source, target)


def _states(folder: Path) -> Iterator[tuple[str, State]]:
    for path in images_below(folder):
        if not path.endswith(UNFINISHED):
            try:
                yield path, state_of(folder / path)
            except OSError:
                continue  # removed since it was listed


def _read(folder: Path, path: str, config: DataConfig) -> InboxFile | str:
    """The file, or why it cannot be taken in."""
    kind_and_category = _classify(path, config)
    if kind_and_category is None:
        return (
            f"its path in the inbox matches neither data.normal = {config.normal!r} nor data.defect = "
            f"{config.defect!r} nor data.mask = {config.mask!r}"
        )
    kind, category = kind_and_category
    try:
        data, _ = read_unchanged(folder / path, max_bytes_for(config.max_pixels))
    except ImageFault as fault:
        return str(fault)
    min_side = 1 if kind == "mask" else config.min_side
    if reason := examine_image(data, min_side, config.max_pixels).reason:
        return reason
    return InboxFile(path, hashlib.sha256(data).hexdigest(), kind, category)


def _classify(path: str, config: DataConfig) -> tuple[str, str] | None:
    """Kind and category of a path by the globs of the data source; None if no glob matches."""
    for category, rest in _possible_categories(path, config.categories):
        if regex(config.mask).fullmatch(rest):
            return "mask", category
        if regex(config.normal).fullmatch(rest):
            return "normal", category
        if regex(config.defect).fullmatch(rest):
            return "defect", category
    return None


def _possible_categories(path: str, categories: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(category, rest of the path): by the first folder, and a single category also without a folder."""
    first, slash, rest = path.partition("/")
    if slash and first in categories:
        yield first, rest
    if len(categories) == 1:
        yield categories[0], path
