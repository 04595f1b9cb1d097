"""What published layouts have in common: folders of images with one label in a category's folder, and masks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from stages.download.config import DataConfig
from stages.download.found import OfficialSplit, Rejected, SourceImage
from stages.download.sources.files import folders, images, layout_root
from stages.types import UserError


@dataclass(frozen=True)
class Part:
    """A folder of images with one label."""

    folder: str
    """Relative to the category's folder."""
    split: OfficialSplit = ""
    defect_type: str = ""
    """Empty for good images."""


@dataclass(frozen=True)
class Mask:
    """A mask and the image that it belongs to."""

    defect_type: str
    stem: str
    """The image's name without ending."""
    file: Path


def category_folders(
    config: DataConfig, root: Path, is_category: Callable[[Path], bool], layout: str
) -> dict[str, Path]:
    """Folders of the configured categories, by name.

    Args:
        is_category: whether a folder is the folder of a category.
        layout: the layout in words, for the message.

    Raises:
        UserError: no folder has this layout, or the data set lacks a category.
    """
    top = layout_root(root, lambda folder: any(map(is_category, folders(folder))), layout)
    available = {folder.name: folder for folder in folders(top) if is_category(folder)}
    for category in config.categories:
        if category not in available:
            raise UserError(f"data.categories: {top} has no {category!r}; it has {', '.join(available)}")
    return {category: available[category] for category in config.categories}


def single_category(config: DataConfig) -> str:
    """The name that the user gave to a data set with a single kind of part.

    Raises:
        UserError: several names.
    """
    if len(config.categories) > 1:
        names = ", ".join(config.categories)
        raise UserError(
            f"data.categories: {config.source} has a single kind of part, but {names} are several; name one"
        )
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
) -> Iterator[SourceImage | Rejected]:
    """Images of the parts with their masks, then the masks that belong to no image.

    Args:
        group: (part, file) -> group of the image; None: each image is a group, named after it.
        is_image: which of the parts' files are images, if masks are among them.
    """
    by_image: dict[tuple[str, str], list[Path]] = {}
    for mask in masks:
        by_image.setdefault((mask.defect_type, mask.stem), []).append(mask.file)
    used: set[tuple[str, str]] = set()
    for part in parts:
        for file in filter(is_image, images(base / part.folder)):
            key = part.defect_type, file.stem
            name = f"{part.folder}/{file.name}"
            used.add(key)
            yield SourceImage(
                file=file,
                name=name,
                category=category,
                group=name if group is None else group(part, file),
                defect_type=part.defect_type,
                masks=tuple(by_image.get(key, ())) if part.defect_type else (),
                mask_above=mask_above,
                split=part.split,
            )
    for key, files in by_image.items():
        if key not in used:
            for orphan in files:
                yield orphan_mask(orphan, category, key[1])


def orphan_mask(mask: Path, category: str, stem: str) -> Rejected:
    """A mask that belongs to no image."""
    path = str(mask).encode(errors="replace").decode()
    return Rejected(
        path, category, f"a mask without an image: there is no defective image {stem!r}; add it, or remove the mask"
    )
