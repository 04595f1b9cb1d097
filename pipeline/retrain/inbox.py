"""The inbox: which of its files are new, whole and of use; which are there already; which have to wait, and why."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from stages.download.config import DataConfig
from stages.download.examine import State, examine_image, max_bytes_for, read_unchanged, state_of
from stages.download.sources.files import images_below, is_image
from stages.download.sources.globs import regex
from stages.images import ImageFault

UNFINISHED = (".part", ".tmp", ".crdownload", ".filepart")
"""Endings under which programs write what is not whole yet. (Hidden files are passed over as well.)"""


@dataclass(frozen=True)
class Drop:
    """One file of the inbox that is taken in."""

    path: str
    """Below the inbox, '/' between parts."""
    sha256: str
    kind: str
    """`normal`, `defect` or `mask`."""
    category: str


@dataclass(frozen=True)
class Inbox:
    """What a look into the inbox found."""

    new: tuple[Drop, ...] = ()
    known: tuple[Drop, ...] = ()
    """Of the same bytes and kind as an image that is there already, or as one of `new`."""
    left: Mapping[str, str] = field(default_factory=dict)
    """Why, by path, a file stays where it is."""


Known = Mapping[str, str]
"""`normal` or `defect` by sha256, of the images that are there already."""


def holds_files(folder: Path) -> bool:
    """Whether there is anything that may be an image: a first look, which reads no file."""
    return folder.is_dir() and any(True for _ in images_below(folder))


def others(folder: Path) -> list[str]:
    """Files that are no images by their ending, and none that is still being written; hidden ones are passed over."""
    if not folder.is_dir():
        return []
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    seen = (path.as_posix() for path in files if not any(part.startswith(".") for part in path.parts))
    return sorted(path for path in seen if not is_image(path) and not path.endswith(UNFINISHED))


def look(folder: Path, config: DataConfig, known: Known, wait: Callable[[], None]) -> Inbox:
    """Read the inbox. A file that changes while `wait` waits is still being written, whatever the clock says.

    Raises:
        UserError: the folder cannot be read.
    """
    if not holds_files(folder):
        return Inbox()
    before = dict(_states(folder))
    wait()
    new: list[Drop] = []
    seen_again: list[Drop] = []
    left: dict[str, str] = {}
    seen = dict(known)
    for path, state in sorted(_states(folder)):
        drop = _read(folder, path, config) if before.get(path) == state else "it is still being written"
        if isinstance(drop, str):
            left[path] = drop
        elif drop.kind != "mask" and seen.get(drop.sha256, drop.kind) != drop.kind:
            left[path] = f"the same image is there as {seen[drop.sha256]} already"
        elif drop.sha256 in seen:
            seen_again.append(drop)
        else:
            new.append(drop)
            if drop.kind != "mask":  # masks of different images may be equal
                seen[drop.sha256] = drop.kind
    return Inbox(tuple(new), tuple(seen_again), left)


def pause(seconds: float) -> Callable[[], None]:
    return lambda: time.sleep(seconds)


def place(drop: Drop, pool: Path) -> PurePosixPath:
    """Where in the pool of images it goes: its own path, with its digest in the name where that is taken."""
    path = PurePosixPath(drop.path)
    return path.with_name(f"{path.stem}-{drop.sha256[:8]}{path.suffix}") if (pool / path).exists() else path


def _states(folder: Path) -> Iterator[tuple[str, State]]:
    for path in images_below(folder):
        if not path.endswith(UNFINISHED):
            try:
                yield path, state_of(folder / path)
            except OSError:
                continue  # gone since it was listed


def _read(folder: Path, path: str, config: DataConfig) -> Drop | str:
    """The file as it would be taken in, or why it cannot be."""
    found = _kind(path, config)
    if found is None:
        return (
            f"neither data.normal = {config.normal!r} nor data.defect = {config.defect!r} nor data.mask = "
            f"{config.mask!r} matches its place in the inbox"
        )
    try:
        data, _ = read_unchanged(folder / path, max_bytes_for(config.max_pixels))
    except ImageFault as fault:
        return str(fault)
    side = 1 if found[0] == "mask" else config.min_side
    if reason := examine_image(data, side, config.max_pixels).reason:
        return reason
    return Drop(path, hashlib.sha256(data).hexdigest(), *found)


def _kind(path: str, config: DataConfig) -> tuple[str, str] | None:
    """What the globs make of a path, and of which category it is; a sole category needs no folder of its own."""
    for category, rest in _readings(path, config.categories):
        if regex(config.mask).fullmatch(rest):
            return "mask", category
        if regex(config.normal).fullmatch(rest):
            return "normal", category
        if regex(config.defect).fullmatch(rest):
            return "defect", category
    return None


def _readings(path: str, categories: Sequence[str]) -> Iterator[tuple[str, str]]:
    first, slash, rest = path.partition("/")
    if slash and first in categories:
        yield first, rest
    if len(categories) == 1:
        yield categories[0], path
