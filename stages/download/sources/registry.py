"""Every source of images by name, and the checks that apply to all of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from stages.download.config import DataConfig
from stages.download.found import Rejected, SourceImage, same_file
from stages.download.sources import (
    btad,
    elpv,
    folder,
    kolektor_sdd2,
    magnetic_tile,
    mvtec_ad,
    mvtec_ad2,
    mvtec_loco,
    synthetic,
    visa,
)
from stages.types import UserError

Source = Callable[[DataConfig, Path], Iterator[SourceImage | Rejected]]
"""(parameters, folder of the images) -> images. The folder is `data.folder`, or that of the unpacked archive. `elpv`
ignores it; `synthetic` renders its files into it."""


def with_checks(name: str, find: Source) -> Source:
    """The source with `group_pattern` applied and its names checked.

    Raises (while it is read):
        UserError: two images of a category have names that differ only in letter case; a category has no good images.
    """

    def find_checked(config: DataConfig, root: Path) -> Iterator[SourceImage | Rejected]:
        seen: dict[tuple[str, str], str] = {}
        with_good: set[str] = set()
        for file in find(config, root):
            if isinstance(file, Rejected):
                yield file
            elif not _is_text(file.name):
                path = str(file.file).encode(errors="replace").decode()
                yield Rejected(path, file.category, "its name is not valid UTF-8; rename it")
            else:
                _check_unique(file, seen)
                if file.is_good:
                    with_good.add(file.category)
                pattern = config.group_pattern
                yield file if pattern is None else replace(file, group=group_of(pattern, file.name))
        for category in config.categories:
            if category not in with_good:
                raise UserError(
                    f"data.categories: {name} has no good images of category {category!r} in {root}; add some"
                )

    return find_checked


def group_of(pattern: str, name: str) -> str:
    """First group (or whole match) of the pattern in the name; an image that it does not match is its own group."""
    match = re.search(pattern, name)
    if match is None:
        return name
    return match.group(1) if match.re.groups and match.group(1) is not None else match.group(0)


def _check_unique(image: SourceImage, seen: dict[tuple[str, str], str]) -> None:
    """Raises UserError for a name that some systems take for the name of an earlier image."""
    key = image.category, same_file(image.name)
    if key in seen:
        raise UserError(
            f"category {image.category!r}: {seen[key]} and {image.name} differ in letter case alone, so they are one "
            "file on many machines; rename or remove one of them"
        )
    seen[key] = image.name


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


SOURCES: dict[str, Source] = {
    name: with_checks(name, find)
    for name, find in {
        "elpv": elpv.find,
        "folder": folder.find,
        "magnetic_tile": magnetic_tile.find,
        "mvtec_ad": mvtec_ad.find,
        "mvtec_ad2": mvtec_ad2.find,
        "mvtec_loco": mvtec_loco.find,
        "visa": visa.find,
        "btad": btad.find,
        "kolektor_sdd2": kolektor_sdd2.find,
        "synthetic": synthetic.find,
    }.items()
}
