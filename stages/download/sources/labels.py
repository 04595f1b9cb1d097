"""One's own images as a CSV file lists them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from stages.download.found import Found, OfficialSplit
from stages.download.sources.table import Line, lines
from stages.types import UserError

SPLITS: dict[str, OfficialSplit] = {"": "", "train": "train", "validation": "validation", "test": "test"}


def find_labelled(file: Path, base: Path, category: str) -> Iterator[Found]:
    """The images that the file names, in its order; other files below the folder are passed over.

    Raises:
        UserError: as `lines`; a path that leads out of the folder, is not there or is named twice; an unknown split; a
            mask of a good image; a defect that is not for testing.
    """
    first: dict[str, str] = {}
    for line in lines(file, ("path", "label")):
        path = line.image("path", base)
        if path in first:
            raise UserError(f"{line.where}: {path} stands in {first[path]} already; remove one of the two")
        first[path] = line.where
        yield _found(line, path, base, category)


def _found(line: Line, path: str, base: Path, category: str) -> Found:
    label = line.cells["label"]
    kind = "" if label.casefold() == "normal" else label
    split = line.cells.get("split", "")
    if split not in SPLITS:
        raise UserError(f"{line.where}: split {split!r}; it is train, validation, test or empty")
    if kind and split in ("train", "validation"):
        raise UserError(f"{line.where}: a defect ({kind}) for {split}; detectors learn from good images, write test")
    mask = line.image("mask", base) if line.cells.get("mask") else None
    if mask is not None and not kind:
        raise UserError(f"{line.where}: {path} is good, and has the mask {mask}; write a label, or no mask")
    return Found(
        file=base / path,
        name=path,
        category=category,
        group=line.cells.get("group") or path,
        defect_type=kind,
        masks=() if mask is None else (base / mask,),
        split=SPLITS[split],
    )
