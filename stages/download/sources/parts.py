"""What published layouts have in common: in a category's folder, folders of images of one label, and masks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from stages.download.config import DataConfig
from stages.download.found import Found, OfficialSplit, Rejected
from stages.download.sources.files import folders, home, images
from stages.types import UserError


@dataclass(frozen=True)
class Part:
    """A folder of images of one label."""

    folder: str
    """Below the category's folder."""
    split: OfficialSplit = ""
    kind: str = ""
    """Type of defect; empty for normal images."""


@dataclass(frozen=True)
class Mask:
    """A mask and the image that it belongs to."""

    kind: str
    stem: str
    """The image's name without ending."""
    file: Path


def categories(config: DataConfig, root: Path, is_category: Callable[[Path], bool], layout: str) -> dict[str, Path]:
    """Folders of the configured categories, by name.

    Raises:
        UserError: no folder of the layout, or a category that the data set lacks.
    """
    top = home(root, lambda folder: any(map(is_category, folders(folder))), layout)
    there = {folder.name: folder for folder in folders(top) if is_category(folder)}
    for category in config.categories:
        if category not in there:
            raise UserError(f"data.categories: {top} has no {category!r}; it has {', '.join(there)}")
    return {category: there[category] for category in config.categories}


def single_category(config: DataConfig) -> str:
    """The name that the user gave to a data set of one kind of part.

    Raises:
        UserError: several names.
    """
    if len(config.categories) > 1:
        given = ", ".join(config.categories)
        raise UserError(f"data.categories: {config.source} is of one kind of part, {given} are several; name one")
    return config.categories[0]


def assemble(
    base: Path,
    category: str,
    parts: Iterable[Part],
    masks: Iterable[Mask] = (),
    *,
    mask_above: int = 127,
    group: Callable[[Part, Path], str] | None = None,
    is_image: Callable[[Path], bool] = lambda file: True,
) -> Iterator[Found | Rejected]:
    """Images of the parts with their masks, then the masks that no image belongs to.

    Args:
        group: group of an image of a part; None: each image is one, by its name.
        is_image: which of the parts' files are images, where masks lie among them.
    """
    by_image: dict[tuple[str, str], list[Path]] = {}
    for mask in masks:
        by_image.setdefault((mask.kind, mask.stem), []).append(mask.file)
    used: set[tuple[str, str]] = set()
    for part in parts:
        for file in filter(is_image, images(base / part.folder)):
            key = part.kind, file.stem
            name = f"{part.folder}/{file.name}"
            used.add(key)
            yield Found(
                file=file,
                name=name,
                category=category,
                group=name if group is None else group(part, file),
                defect_type=part.kind,
                masks=tuple(by_image.get(key, ())) if part.kind else (),
                mask_above=mask_above,
                split=part.split,
            )
    for key, files in by_image.items():
        if key not in used:
            for orphan in files:
                yield without_image(orphan, category, key[1])


def without_image(mask: Path, category: str, stem: str) -> Rejected:
    """A mask that belongs to no image."""
    path = str(mask).encode(errors="replace").decode()
    return Rejected(
        path, category, f"a mask without an image: there is no defective image {stem!r}; add it, or remove the mask"
    )
