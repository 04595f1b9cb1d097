"""VisA: 12 categories, such as circuit boards and food.

Source: Zou et al., "SPot-the-Difference Self-Supervised Pre-training for Anomaly Detection and Segmentation", ECCV
2022. Licence: CC BY 4.0. Official split: `split_csv/1cls.csv` in the publisher's archive.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from stages.download.config import DataConfig
from stages.download.found import OfficialSplit, Rejected, SourceImage
from stages.download.sources.files import images, is_file, is_folder, mask_folder
from stages.download.sources.parts import Mask, Part, assemble, category_folders
from stages.download.sources.table import read_lines
from stages.types import UserError

LAYOUT = "<category>/Data/Images/{Normal,Anomaly}, <category>/Data/Masks/Anomaly"
SPLITS: dict[str, OfficialSplit] = {"train": "train", "test": "test"}
PARTS = (Part("Data/Images/Normal"), Part("Data/Images/Anomaly", defect_type="anomaly"))


def find(config: DataConfig, root: Path) -> Iterator[SourceImage | Rejected]:
    """Images of every category; with `data.split` official, images that the split file does not name are rejected.

    Raises:
        UserError: the folder has another layout or lacks a category; the split file has an error.
    """
    bases = category_folders(config, root, lambda folder: is_folder(folder / "Data/Images/Normal"), LAYOUT)
    top = next(iter(bases.values())).parent
    table = top / "split_csv" / "1cls.csv"
    official = _official(config, table, top) if config.split == "official" and is_file(table) else None
    for category, base in bases.items():
        # Values of a mask number the types of defect from 1.
        masks = [Mask("anomaly", file.stem, file) for file in images(mask_folder(base / "Data", "Masks") / "Anomaly")]
        for image in assemble(base, category, PARTS, masks, mask_above=0):
            if official is None or isinstance(image, Rejected):
                yield image
            elif (path := f"{category}/{image.name}") in official:
                yield replace(image, split=official[path])
            else:
                reason = f"{table.name} does not name it; add a line, or set data.split: grouped"
                yield Rejected(str(image.file), category, reason)


def _official(config: DataConfig, table: Path, top: Path) -> dict[str, OfficialSplit]:
    """Split by path below `top`, for the configured categories."""
    splits: dict[str, OfficialSplit] = {}
    first: dict[str, str] = {}
    for line in read_lines(table, ("object", "split", "image")):
        if line.cells["object"] not in config.categories:
            continue
        path, split = line.image_path("image", top), line.cells["split"]
        if split not in SPLITS:
            raise UserError(f"{line.where}: split {split!r}; it is train or test")
        if path in splits:
            raise UserError(f"{line.where}: {path} is already named in {first[path]}; remove one of the two lines")
        splits[path], first[path] = SPLITS[split], line.where
    return splits
