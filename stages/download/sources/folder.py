"""One's own images, found by the globs `normal`, `defect` and `mask`, or listed in the CSV file `labels`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from stages.download.config import DataConfig
from stages.download.found import Found, Rejected
from stages.download.sources.files import images_below, is_file, is_folder, listed, tops
from stages.download.sources.globs import regex
from stages.download.sources.labels import find_labelled
from stages.download.sources.own_masks import match_masks
from stages.download.sources.parts import without_image
from stages.types import UserError

UNNAMED = "defect"
"""Type of a defect that no folder names."""


@dataclass(frozen=True)
class Tree:
    """Image files below a category's folder, by what the globs make of them; paths with '/' between parts."""

    normals: list[str] = field(default_factory=list)
    defects: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Type, and path below the folder that names it, by path."""
    masks: list[str] = field(default_factory=list)


def find(config: DataConfig, root: Path) -> Iterator[Found | Rejected]:
    """Images of every category, and masks without an image; files that no glob matches are passed over.

    Raises:
        UserError: no such folder, a category without normal images, an image that is normal and defective at once, a
            mask that fits several images, or a fault in the CSV file.
    """
    for category in config.categories:
        bases = _bases(config, root, category)
        if config.labels is not None:
            yield from _labelled(config.labels, root, bases, category)
        else:
            yield from _globbed(config, root, bases, category)


def _bases(config: DataConfig, root: Path, category: str) -> list[Path]:
    """Where the category's images may lie, the likeliest first."""
    alone = len(config.categories) == 1
    bases = [base for top in tops(root) for base in ([top / category, top] if alone else [top / category])]
    return list(dict.fromkeys(base for base in bases if is_folder(base)))


def _labelled(labels: str, root: Path, bases: list[Path], category: str) -> Iterator[Found | Rejected]:
    for base in bases:
        if is_file(base / labels):
            return find_labelled(base / labels, base, category)
    where = bases[0] if bases else root / category
    raise UserError(f"data.labels: there is no {where / labels}; {root} holds {listed(root)}")


def _globbed(config: DataConfig, root: Path, bases: list[Path], category: str) -> Iterator[Found | Rejected]:
    for base in bases:
        tree = _tree(config, base)
        if tree.normals:
            return _found(config, base, tree, category)
    where = bases[0] if bases else root / category
    raise UserError(
        f"data.folder: no normal images of category {category!r} in {where}: no image file there matches data.normal = "
        f"{config.normal!r} alone, without data.mask; {root} holds {listed(root)}"
    )


def _tree(config: DataConfig, base: Path) -> Tree:
    tree = Tree()
    normal, defect, mask = regex(config.normal), regex(config.defect), regex(config.mask)
    for path in images_below(base):
        if mask.fullmatch(path):
            tree.masks.append(path)
            continue
        good, bad = normal.fullmatch(path), defect.fullmatch(path)
        if good and bad:
            raise UserError(f"{base / path}: data.normal and data.defect both match it; write others")
        if good:
            tree.normals.append(path)
        if bad:
            tree.defects[path] = _kind(bad, path)
    return tree


def _kind(match: re.Match[str], path: str) -> tuple[str, str]:
    """Type of a defect, and the path below the folder that names it."""
    if match.groupdict().get("first"):
        _, slash, rest = path[match.end("first") :].partition("/")
        if slash:
            return match["first"], rest
    return UNNAMED, PurePosixPath(path).name


def _found(config: DataConfig, base: Path, tree: Tree, category: str) -> Iterator[Found | Rejected]:
    masks, orphans = match_masks(config.mask, tree.masks, tree.defects, base)
    for path in tree.normals:
        yield Found(base / path, path, category, group=path)
    for path, (kind, _) in tree.defects.items():
        yield Found(base / path, path, category, path, kind, tuple(base / mask for mask in masks.get(path, ())))
    for mask in orphans:
        yield without_image(base / mask, category, PurePosixPath(mask).stem)
