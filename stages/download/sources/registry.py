"""Every source of images by name, and what holds for each of them whatever its layout."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from stages.download.config import DataConfig
from stages.download.found import Found, Rejected, same_file
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

Source = Callable[[DataConfig, Path], Iterator[Found | Rejected]]
"""From the parameters and the folder where the images lie (`data.folder`, or that of the extracted archive) to what is
there. `elpv` takes no notice of the folder; `synthetic` draws its files into it."""


def checked(name: str, find: Source) -> Source:
    """The source with `group_pattern` applied and its names checked.

    Raises (while it is read):
        UserError: two images of a category whose names differ in letter case alone; a category without normal images.
    """

    def find_checked(config: DataConfig, root: Path) -> Iterator[Found | Rejected]:
        seen: dict[tuple[str, str], str] = {}
        good: set[str] = set()
        for one in find(config, root):
            if isinstance(one, Rejected):
                yield one
            elif not _is_text(one.name):
                path = str(one.file).encode(errors="replace").decode()
                yield Rejected(path, one.category, "its name is not valid UTF-8; rename it")
            else:
                _once(one, seen)
                if one.normal:
                    good.add(one.category)
                yield one if config.group_pattern is None else replace(one, group=group(config.group_pattern, one.name))
        for category in config.categories:
            if category not in good:
                raise UserError(
                    f"data.categories: {name} has no normal images of category {category!r} in {root}; add some"
                )

    return find_checked


def group(pattern: str, name: str) -> str:
    """First group (or whole match) of the pattern in the name; an image that it does not match is its own group."""
    match = re.search(pattern, name)
    if match is None:
        return name
    return match.group(1) if match.re.groups and match.group(1) is not None else match.group(0)


def _once(one: Found, seen: dict[tuple[str, str], str]) -> None:
    """Raises UserError for a name that other systems take for one that came before."""
    key = one.category, same_file(one.name)
    if key in seen:
        raise UserError(
            f"category {one.category!r}: {seen[key]} and {one.name} differ in letter case alone, so they are one file "
            "on many machines; rename or remove one of them"
        )
    seen[key] = one.name


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


SOURCES: dict[str, Source] = {
    name: checked(name, find)
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
