"""The user's own images, found by the globs `normal`, `defect` and `mask`, or listed in the CSV file `labels`."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from stages.download.config import DataConfig
from stages.download.found import Rejected, SourceImage
from stages.download.sources.files import describe_folder, images_below, is_file, is_folder, possible_roots
from stages.download.sources.globs import regex
from stages.download.sources.labels import find_labelled
from stages.download.sources.own_masks import match_masks
from stages.download.sources.parts import orphan_mask
from stages.types import UserError

LOGGER = logging.getLogger(__name__)
UNNAMED = "defect"
"""Type of a defect that is in no folder named after its type."""


@dataclass(frozen=True)
class Tree:
    """Image files below a category's folder, sorted by the globs; paths with '/' between parts."""

    good: list[str] = field(default_factory=list)
    defects: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Path of a defective image -> its type, and its path below the folder named after the type."""
    masks: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    """Images that no glob matches."""


def find(config: DataConfig, root: Path) -> Iterator[SourceImage | Rejected]:
    """Images of every category, and masks without an image; images that no glob matches are left out with a warning.

    Raises:
        UserError: the folder does not exist; a category has no good images; an image matches both `normal` and
            `defect`; a mask fits several images; the CSV file has an error.
    """
    for category in config.categories:
        folders = _candidate_folders(config, root, category)
        if config.labels is not None:
            yield from _labelled(config.labels, root, folders, category)
        else:
            yield from _globbed(config, root, folders, category)


def _candidate_folders(config: DataConfig, root: Path, category: str) -> list[Path]:
    """Folders that may hold the category's images, the most likely first."""
    alone = len(config.categories) == 1
    folders = [base for top in possible_roots(root) for base in ([top / category, top] if alone else [top / category])]
    return list(dict.fromkeys(base for base in folders if is_folder(base)))


def _labelled(labels: str, root: Path, folders: list[Path], category: str) -> Iterator[SourceImage | Rejected]:
    for base in folders:
        if is_file(base / labels):
            return find_labelled(base / labels, base, category)
    where = folders[0] if folders else root / category
    raise UserError(f"data.labels: there is no {where / labels}; {root} holds {describe_folder(root)}")


def _globbed(config: DataConfig, root: Path, folders: list[Path], category: str) -> Iterator[SourceImage | Rejected]:
    for base in folders:
        tree = _tree(config, base)
        if tree.good:
            if tree.others:
                LOGGER.warning(
                    f"{category}: {len(tree.others)} images match none of data.normal, data.defect and data.mask, so "
                    f"they are left out (first: {tree.others[0]})"
                )
            return _source_images(config, base, tree, category)
    where = folders[0] if folders else root / category
    raise UserError(
        f"data.folder: no good images of category {category!r} in {where}: no image file there matches data.normal = "
        f"{config.normal!r} alone, without data.mask; {root} holds {describe_folder(root)}"
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
            raise UserError(f"{base / path}: data.normal and data.defect both match it; change one of them")
        if good:
            tree.good.append(path)
        if bad:
            tree.defects[path] = _defect_type(bad, path)
        if not good and not bad:
            tree.others.append(path)
    return tree


def _defect_type(match: re.Match[str], path: str) -> tuple[str, str]:
    """Type of a defect, and its path below the folder named after the type."""
    if match.groupdict().get("first"):
        _, slash, rest = path[match.end("first") :].partition("/")
        if slash:
            return match["first"], rest
    return UNNAMED, PurePosixPath(path).name


def _source_images(config: DataConfig, base: Path, tree: Tree, category: str) -> Iterator[SourceImage | Rejected]:
    masks, orphans = match_masks(config.mask, tree.masks, tree.defects, base)
    for path in tree.good:
        yield SourceImage(base / path, path, category, group=path)
    for path, (defect_type, _) in tree.defects.items():
        yield SourceImage(
            base / path, path, category, path, defect_type, tuple(base / mask for mask in masks.get(path, ()))
        )
    for mask in orphans:
        yield orphan_mask(base / mask, category, PurePosixPath(mask).stem)
