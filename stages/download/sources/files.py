"""Image files below a folder: in the same order on every machine, without hidden files; links are followed once."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from stages.images import SIGNATURE_BYTES, SUFFIXES, begins_as_image
from stages.types import UserError

LOGGER = logging.getLogger(__name__)
NOT_IMAGES = frozenset(
    f".{ending}"
    for ending in (
        *("cfg", "csv", "db", "html", "ini", "json", "jsonl", "lnk", "log", "md", "part", "pdf", "py", "rst"),
        *("sh", "tmp", "toml", "tsv", "txt", "xlsx", "xml", "yaml", "yml"),
    )
)
"""Endings of files that lie beside images, which are neither opened nor counted."""


@dataclass(frozen=True)
class Entry:
    """One entry of a folder."""

    name: str
    path: Path
    is_folder: bool
    is_image: bool
    """Whether it is an image file (see `is_image`)."""


def entries(folder: Path) -> list[Entry]:
    """Entries of the folder by name, without hidden files and what macOS puts into archives.

    Raises:
        UserError: the folder cannot be read.
    """
    try:
        with os.scandir(folder) as scan:
            kept = [
                Entry(entry.name, folder / entry.name, entry.is_dir(), entry.is_file() and is_image(Path(entry.path)))
                for entry in scan
                if not entry.name.startswith(".") and entry.name != "__MACOSX"
            ]
    except OSError as fault:
        raise UserError(f"{folder}: cannot be read ({fault.strerror}); change its permissions, or remove it") from fault
    return sorted(kept, key=lambda entry: entry.name)


def folders(folder: Path) -> list[Path]:
    """Its sub-folders; none if the folder does not exist."""
    return [entry.path for entry in entries(folder) if entry.is_folder] if is_folder(folder) else []


def images(folder: Path) -> list[Path]:
    """Image files directly in the folder; none if the folder does not exist."""
    return [entry.path for entry in entries(folder) if entry.is_image] if is_folder(folder) else []


def images_below(folder: Path) -> Iterator[str]:
    """Paths ('/' between parts) of the image files at any depth; a folder that several links lead to is read once."""
    waiting, visited = [(folder, "")], set[str]()
    while waiting:
        inner, prefix = waiting.pop()
        if (real := os.path.realpath(inner)) in visited:
            continue
        visited.add(real)
        for entry in entries(inner):
            if entry.is_folder:
                waiting.append((entry.path, f"{prefix}{entry.name}/"))
            elif entry.is_image:
                yield prefix + entry.name


def is_image(path: Path) -> bool:
    """Whether a file has the ending of an image, or another ending (or none) and begins as an image does."""
    suffix = path.suffix.lower()
    if suffix in SUFFIXES or suffix in NOT_IMAGES:
        return suffix in SUFFIXES
    try:
        with path.open("rb") as file:
            return begins_as_image(file.read(SIGNATURE_BYTES))
    except (OSError, ValueError):
        return False


def unread_files(folder: Path) -> list[str]:
    """Paths ('/' between parts) of the files below a folder that are neither images nor of NOT_IMAGES, sorted.

    Hidden files and files without an ending do not count, and links to folders are not followed.
    """
    paths = []
    for inner, names, files in os.walk(folder):
        names[:] = [name for name in names if not name.startswith(".") and name != "__MACOSX"]
        for name in files:
            path = Path(inner, name)
            if not name.startswith(".") and path.suffix.lower() not in {"", *NOT_IMAGES} and not is_image(path):
                paths.append(path.relative_to(folder).as_posix())
    return sorted(paths)


def describe_unread(paths: list[str]) -> str:
    """How many files were not read, by ending: `10 .heic (first: a.heic), 2 .raw (first: b.raw)`."""
    endings = Counter(PurePosixPath(path).suffix.lower() for path in paths)
    first = {PurePosixPath(path).suffix.lower(): path for path in reversed(paths)}
    return ", ".join(f"{count} {ending} (first: {first[ending]})" for ending, count in sorted(endings.items()))


def mask_folder(base: Path, name: str) -> Path:
    """The folder of the masks. A folder with nearly the same name beside it is not read, which a warning says."""
    for folder in folders(base):
        if folder.name != name and _plain(folder.name) in (_plain(name), _plain(name.rstrip("s"))):
            LOGGER.warning(f"{folder} is not read: masks belong in {name}/")
    return base / name


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name.casefold()))


def is_folder(path: Path) -> bool:
    """Whether the path is a readable folder; False for anything that is not a valid path."""
    try:
        return path.is_dir()
    except OSError:
        return False


def is_file(path: Path) -> bool:
    """Whether the path is a readable file; False for anything that is not a valid path."""
    try:
        return path.is_file()
    except OSError:
        return False


def possible_roots(root: Path) -> list[Path]:
    """Where a layout may begin: the folder itself and, as in many archives, its single sub-folder.

    Raises:
        UserError: the folder does not exist.
    """
    if not is_folder(root):
        raise UserError(f"data.folder: {root} is not a folder; put the images there, or set data.archive.url")
    inner = folders(root)
    return [root, *inner] if len(inner) == 1 else [root]


def layout_root(root: Path, begins: Callable[[Path], bool], layout: str) -> Path:
    """The first of `possible_roots` where the layout begins.

    Args:
        begins: whether the layout begins in a folder.
        layout: the layout in words, for the message.

    Raises:
        UserError: the layout begins in none of them; the message says what was expected and what is there.
    """
    for folder in (folders := possible_roots(root)):
        if begins(folder):
            return folder
    raise UserError(
        f"data.folder: {folders[-1]} does not hold {layout}; it holds {describe_folder(folders[-1])}; arrange the "
        "images like this, or choose another data.source"
    )


def describe_folder(folder: Path) -> str:
    """The first entries of a folder, for a message."""
    names = [entry.name + ("/" if entry.is_folder else "") for entry in entries(folder)] or ["nothing"]
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
