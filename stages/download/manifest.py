"""From found files to a data set: every image checked, hashed, copied, split; what cannot be used is listed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from stages.download import elpv, folder
from stages.download.config import DataConfig
from stages.download.found import Found
from stages.download.images import ImageFault, decode
from stages.download.split import Split, split_of
from stages.types import UserError

SOURCES: dict[str, Callable[[DataConfig], Iterator[Found]]] = {"elpv": elpv.find, "folder": folder.find}
MIN_TRAIN, MIN_VALIDATION = 2, 1


@dataclass(frozen=True)
class ImageRecord:
    """One row of the manifest."""

    path: str
    """Below the data set's folder."""
    sha256: str
    width: int
    height: int
    """Of the upright image, pixels."""
    category: str
    split: Split
    label: int
    """0 normal, 1 defect."""
    defect_type: str
    mask_path: str
    """Below the data set's folder; empty without a mask."""
    group: str


@dataclass(frozen=True)
class Rejected:
    """A file that cannot be used."""

    path: str
    category: str
    reason: str


def collect(
    config: DataConfig, destination: Path, progress: Callable[[int, int], None] = lambda done, count: None
) -> tuple[list[ImageRecord], list[Rejected]]:
    """Copy the usable images of the configured source below `destination`; manifest rows sorted by category and path.

    Raises:
        UserError: nothing found, too large a share rejected, or too few normal images to split.
    """
    found = sorted(SOURCES[config.source](config), key=lambda one: (one.category, one.name))
    records: list[ImageRecord] = []
    rejected: list[Rejected] = []
    for done, one in enumerate(found, start=1):
        try:
            records.append(_take(one, config, destination))
        except ImageFault as fault:
            rejected.append(Rejected(str(one.file), one.category, str(fault)))
        progress(done, len(found))
    _check_rejected(rejected, len(found), config)
    _check_split(records, config)
    return records, rejected


def _take(one: Found, config: DataConfig, destination: Path) -> ImageRecord:
    try:
        data = one.file.read_bytes()
    except PermissionError as fault:
        raise ImageFault("no permission to read it") from fault
    image = decode(data, min_side=config.min_side, max_pixels=config.max_pixels)
    path = f"images/{one.category}/{one.name}"
    _write(destination / path, data)
    mask_path = ""
    if one.mask is not None:
        mask_path = f"masks/{one.category}/{one.name}{one.mask.suffix.lower()}"
        mask = one.mask.read_bytes()
        size = decode(mask).size
        if size != image.size:
            raise ImageFault(f"its mask {one.mask.name} is {size[0]}x{size[1]}, the image {image.width}x{image.height}")
        _write(destination / mask_path, mask)
    return ImageRecord(
        path=path,
        sha256=hashlib.sha256(data).hexdigest(),
        width=image.width,
        height=image.height,
        category=one.category,
        split=split_of(config.fold, one.group, one.normal),
        label=0 if one.normal else 1,
        defect_type=one.defect_type,
        mask_path=mask_path,
        group=one.group,
    )


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _check_rejected(rejected: Iterable[Rejected], count: int, config: DataConfig) -> None:
    faults = list(rejected)
    if count and len(faults) / count > config.max_rejected_fraction:
        named = "; ".join(f"{fault.path}: {fault.reason}" for fault in faults[:5])
        raise UserError(
            f"{len(faults)} of {count} images cannot be used, more than data.max_rejected_fraction = "
            f"{config.max_rejected_fraction}; the first of them: {named}"
        )


def _check_split(records: list[ImageRecord], config: DataConfig) -> None:
    for category in config.categories:
        normals = [record for record in records if record.category == category and record.label == 0]
        if not normals:
            raise UserError(f"data.categories: category {category!r} has no usable normal image")
        counts = {split: sum(record.split == split for record in normals) for split in ("train", "validation", "test")}
        if counts["train"] < MIN_TRAIN or counts["validation"] < MIN_VALIDATION:
            raise UserError(
                f"data: too few normal images of {category!r} to split: {len(normals)} images in "
                f"{len({record.group for record in normals})} groups gave {counts['train']} train and "
                f"{counts['validation']} validation, at least {MIN_TRAIN} and {MIN_VALIDATION} are needed; "
                "add images, or choose another data.fold"
            )
