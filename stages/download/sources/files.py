"""Image files below a folder: in one order everywhere, without hidden ones, links followed once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from stages.images import SUFFIXES
from stages.types import UserError


@dataclass(frozen=True)
class Entry:
    """What lies in a folder."""

    name: str
    path: Path
    is_folder: bool
    is_image: bool
    """An image file, by its ending alone."""


def entries(folder: Path) -> list[Entry]:
    """What lies in the folder by name, without hidden files and what macOS puts into archives.

    Raises:
        UserError: the folder cannot be read.
    """
    try:
        with os.scandir(folder) as found:
            kept = [
                Entry(one.name, folder / one.name, one.is_dir(), is_image(one.name) and one.is_file())
                for one in found
                if not one.name.startswith(".") and one.name != "__MACOSX"
            ]
    except OSError as fault:
        raise UserError(f"{folder}: cannot be read ({fault.strerror}); mend that, or remove it") from fault
    return sorted(kept, key=lambda one: one.name)


def folders(folder: Path) -> list[Path]:
    """Its sub-folders; none where there is no such folder."""
    return [one.path for one in entries(folder) if one.is_folder] if is_folder(folder) else []


def images(folder: Path) -> list[Path]:
    """Image files that lie directly in the folder; none where there is no such folder."""
    return [one.path for one in entries(folder) if one.is_image] if is_folder(folder) else []


def images_below(folder: Path) -> Iterator[str]:
    """Paths ('/' between parts) of the image files at any depth; a folder that links lead to twice is read once."""
    waiting, visited = [(folder, "")], set[str]()
    while waiting:
        inner, prefix = waiting.pop()
        if (real := os.path.realpath(inner)) in visited:
            continue
        visited.add(real)
        for one in entries(inner):
            if one.is_folder:
                waiting.append((one.path, f"{prefix}{one.name}/"))
            elif one.is_image:
                yield prefix + one.name


def is_image(name: str) -> bool:
    """By the ending alone."""
    return PurePosixPath(name).suffix.lower() in SUFFIXES


def is_folder(path: Path) -> bool:
    """Whether it is one that may be read; False for whatever is no path at all."""
    try:
        return path.is_dir()
    except OSError:
        return False


def is_file(path: Path) -> bool:
    """Whether it is one that may be read; False for whatever is no path at all."""
    try:
        return path.is_file()
    except OSError:
        return False


def tops(root: Path) -> list[Path]:
    """Where a layout may begin: the folder itself and, as in many archives, its single sub-folder.

    Raises:
        UserError: no such folder.
    """
    if not is_folder(root):
        raise UserError(f"data.folder: {root} is not a folder; put the images there, or set data.archive.url")
    inner = folders(root)
    return [root, *inner] if len(inner) == 1 else [root]


def home(root: Path, begins: Callable[[Path], bool], layout: str) -> Path:
    """The first of `tops` where the layout begins.

    Raises:
        UserError: none of them; says what was expected and what is there.
    """
    for top in (found := tops(root)):
        if begins(top):
            return top
    raise UserError(
        f"data.folder: {found[-1]} does not hold {layout}; it holds {listed(found[-1])}; put the images there so, "
        "or choose another data.source"
    )


def listed(folder: Path) -> str:
    """The first entries of a folder, for a message."""
    names = [one.name + ("/" if one.is_folder else "") for one in entries(folder)] or ["nothing"]
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
