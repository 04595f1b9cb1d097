"""One's own images: `normal/`, optional `defect/<type>/`, optional `masks/<type>/<same name>.png`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from stages.download.config import DataConfig
from stages.download.found import Found
from stages.download.images import SUFFIXES
from stages.types import UserError

LAYOUT = "normal/, optional defect/<type>/, optional masks/<type>/"


def find(config: DataConfig) -> Iterator[Found]:
    """The images of every category; files with other endings than an image's are passed over.

    Raises:
        UserError: no such folder, or a category without normal images.
    """
    root = Path(config.folder)
    if not root.is_dir():
        raise UserError(f"data.folder: {root} is not a folder; put your images there as {LAYOUT}")
    for category in config.categories:
        base = root if len(config.categories) == 1 and (root / "normal").is_dir() else root / category
        normals = list(_images(base / "normal"))
        if not normals:
            raise UserError(
                f"data.folder: no normal images of category {category!r} in {base / 'normal'}; the layout is {LAYOUT}"
            )
        for file in normals:
            yield _found(config, base, file, category, "", None)
        for kind in sorted(path for path in base.glob("defect/*") if path.is_dir()):
            masks = {path.stem: path for path in _images(base / "masks" / kind.name)}
            for file in _images(kind):
                yield _found(config, base, file, category, kind.name, masks.get(file.stem))


def _images(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
                yield path


def _found(config: DataConfig, base: Path, file: Path, category: str, kind: str, mask: Path | None) -> Found:
    name = file.relative_to(base).as_posix()
    return Found(file, name, category, _group(config.group_pattern, name), kind, mask)


def _group(pattern: str | None, name: str) -> str:
    if pattern is None:
        return name
    match = re.search(pattern, name)
    if match is None:
        return name  # an image that the pattern does not know is a group of its own
    return match.group(1) if match.re.groups and match.group(1) is not None else match.group(0)
