"""The champion: the bundle that serves. Every version is a folder of its own, and one link says which it is.

    data/champion/v0.2.0/     a bundle (pipeline/bundle.py), never changed once it has this name
    data/champion/current     symbolic link to one of them, replaced in one rename

So whoever opens `current` gets the old champion or the new one, whole, whenever its maker is killed.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from pipeline.bundle.writer import INDEX
from pipeline.project import paths

CURRENT = "current"


def store(root: Path) -> Path:
    return root / paths.CHAMPION


def current(root: Path) -> Path | None:
    """Folder of the bundle that serves, the link followed; None where there is no champion."""
    folder = (store(root) / CURRENT).resolve()
    return folder if (folder / INDEX).is_file() else None


def version(root: Path) -> str | None:
    """Which version serves, as `v0.2.0`."""
    folder = current(root)
    return None if folder is None else folder.name


def commit_of(folder: Path) -> str:
    """The commit that a champion's bundle was made from."""
    return str(json.loads((folder / INDEX).read_text("utf-8"))["provenance"]["commit"])


def versions(root: Path) -> list[str]:
    """All whose bundles are kept, the oldest first."""
    found = [path.name for path in store(root).glob("v*") if re.fullmatch(r"v\d+\.\d+\.\d+", path.name)]
    return sorted(found, key=order)


def order(name: str) -> tuple[int, ...]:
    """`v0.10.0` -> (0, 10, 0)."""
    return tuple(int(part) for part in name.removeprefix("v").split("."))


def install(root: Path, name: str, make: Callable[[Path], object]) -> Path:
    """Make a version's bundle in its folder, whole or not at all; it does not serve yet."""
    folder = store(root) / name
    scratch = folder.with_name(f".{name}.part")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        make(scratch)
        shutil.rmtree(folder, ignore_errors=True)
        scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


def switch(root: Path, name: str) -> None:
    """Let a version serve, from one moment to the next."""
    link = store(root) / CURRENT
    scratch = link.with_name(f".{CURRENT}.part")
    scratch.unlink(missing_ok=True)
    scratch.symlink_to(name, target_is_directory=True)
    scratch.replace(link)


def prune(root: Path, keep: int) -> None:
    """Remove what a killed run left, and all but the newest `keep` versions and the one that serves."""
    serves = version(root)
    for name in versions(root)[:-keep]:
        if name != serves:
            shutil.rmtree(store(root) / name)
    for scratch in store(root).glob(".*.part"):
        if scratch.is_symlink():
            scratch.unlink()
        else:
            shutil.rmtree(scratch)
