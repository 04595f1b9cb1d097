"""The user's own images as a CSV file lists them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from stages.download.found import OfficialSplit, SourceImage
from stages.download.sources.table import Line, read_lines
from stages.types import UserError

GOOD_LABELS = ("", "normal", "good", "ok", "pass", "io", "0")
"""Labels of a good image, in any letter case."""
SPLITS: dict[str, OfficialSplit] = {"": "", "train": "train", "validation": "validation", "test": "test"}


def find_labelled(file: Path, base: Path, category: str) -> Iterator[SourceImage]:
    """The images that the file names, in its order; other files below the folder are ignored.

    Raises:
        UserError: as `read_lines`; a path leads out of the folder, does not exist or is named twice; an unknown split;
            a good image has a mask; a defect is in another split than test; no image is good.
    """
    first: dict[str, str] = {}
    labels: Counter[str] = Counter()
    for line in read_lines(file, ("path", "label")):
        path = line.image_path("path", base)
        if path in first:
            raise UserError(f"{line.where}: {path} is already named in {first[path]}; remove one of the two lines")
        first[path] = line.where
        image = _source_image(line, path, base, category)
        labels[image.defect_type] += 1
        yield image
    if labels and not labels[""]:
        found = ", ".join(f"{label!r} ({count})" for label, count in labels.most_common(5))
        raise UserError(
            f"{file}: no image is good; the labels are {found}; a good image is labelled "
            f"{', '.join(GOOD_LABELS[1:])} or not at all"
        )


def _source_image(line: Line, path: str, base: Path, category: str) -> SourceImage:
    label = line.cells["label"]
    defect_type = "" if label.casefold() in GOOD_LABELS else label
    split = line.cells.get("split", "")
    if split not in SPLITS:
        raise UserError(f"{line.where}: split {split!r}; it is train, validation, test or empty")
    if defect_type and split in ("train", "validation"):
        raise UserError(
            f"{line.where}: a defect ({defect_type}) in split {split}; detectors learn from good images only, "
            "write test"
        )
    mask = line.image_path("mask", base) if line.cells.get("mask") else None
    if mask is not None and not defect_type:
        raise UserError(f"{line.where}: {path} is good but has the mask {mask}; write a label, or no mask")
    return SourceImage(
        file=base / path,
        name=path,
        category=category,
        group=line.cells.get("group") or path,
        defect_type=defect_type,
        masks=() if mask is None else (base / mask,),
        split=SPLITS[split],
    )
