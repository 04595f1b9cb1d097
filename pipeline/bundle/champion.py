"""The champion: the bundle that `burnish predict` uses. Each version has its own folder, and a link names the champion.

    data/champion/v0.2.0/     a bundle (see `pipeline.bundle.writer`), never changed once it has this name
    data/champion/current     symbolic link to one of them, replaced in one rename

So a reader of `current` gets the old or the new champion, always complete, even if the writer is killed.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from pipeline.bundle.layout import INDEX
from pipeline.project import paths

CURRENT = "current"


def versions_folder(root: Path) -> Path:
    return root / paths.CHAMPION


def current_bundle(root: Path) -> Path | None:
    """Folder of the champion's bundle, with the link resolved; None if there is no champion."""
    folder = (versions_folder(root) / CURRENT).resolve()
    return folder if (folder / INDEX).is_file() else None


def current_version(root: Path) -> str | None:
    """Version of the champion, such as `v0.2.0`; None if there is no champion."""
    folder = current_bundle(root)
    return None if folder is None else folder.name


def commit_of(folder: Path) -> str:
    """The commit that a bundle was made from."""
    return str(json.loads((folder / INDEX).read_text("utf-8"))["provenance"]["commit"])


def stored_versions(root: Path) -> list[str]:
    """Versions whose bundles are kept, oldest first."""
    names = [path.name for path in versions_folder(root).glob("v*") if re.fullmatch(r"v\d+\.\d+\.\d+", path.name)]
    return sorted(names, key=version_numbers)


def version_numbers(version: str) -> tuple[int, ...]:
    """Sort key: `v0.10.0` -> (0, 10, 0)."""
    return tuple(int(part) for part in version.removeprefix("v").split("."))


def install_version(root: Path, version: str, make: Callable[[Path], object]) -> Path:
    """Make the bundle of a version in its folder, completely or not at all. The champion stays the same.

    Args:
        make: writes a bundle into an empty folder.
    """
    folder = versions_folder(root) / version
    scratch = folder.with_name(f".{version}.part")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        make(scratch)
        shutil.rmtree(folder, ignore_errors=True)
        scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


def set_current(root: Path, version: str) -> None:
    """Make a version the champion, atomically."""
    link = versions_folder(root) / CURRENT
    scratch = link.with_name(f".{CURRENT}.part")
    scratch.unlink(missing_ok=True)
    scratch.symlink_to(version, target_is_directory=True)
    scratch.replace(link)


def prune_versions(root: Path, keep: int) -> None:
    """Remove all but the newest `keep` versions and the champion, and what a killed run did not finish."""
    champion = current_version(root)
    for version in stored_versions(root)[:-keep]:
        if version != champion:
            shutil.rmtree(versions_folder(root) / version)
    for scratch in versions_folder(root).glob(".*.part"):
        if scratch.is_symlink():
            scratch.unlink()
        else:
            shutil.rmtree(scratch)
