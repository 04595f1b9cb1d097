"""VisA: 12 categories of circuit boards, food and the like.

Source: Zou et al., "SPot-the-Difference Self-Supervised Pre-training for Anomaly Detection and Segmentation", ECCV
2022. Licence: CC BY 4.0. Official split: `split_csv/1cls.csv` in the publisher's archive.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from stages.download.config import DataConfig
from stages.download.found import Found, OfficialSplit, Rejected
from stages.download.sources.files import images, is_file, is_folder
from stages.download.sources.parts import Mask, Part, assemble, categories
from stages.download.sources.table import lines
from stages.types import UserError

LAYOUT = "<category>/Data/Images/{Normal,Anomaly}, <category>/Data/Masks/Anomaly"
SPLITS: dict[str, OfficialSplit] = {"train": "train", "test": "test"}
PARTS = (Part("Data/Images/Normal"), Part("Data/Images/Anomaly", kind="anomaly"))


def find(config: DataConfig, root: Path) -> Iterator[Found | Rejected]:
    """Images of every category; with `data.split` official those that the split file names, the others are rejected.

    Raises:
        UserError: another layout, a category that is not there, or a fault in the split file.
    """
    found = categories(config, root, lambda folder: is_folder(folder / "Data/Images/Normal"), LAYOUT)
    top = next(iter(found.values())).parent
    table = top / "split_csv" / "1cls.csv"
    official = _official(config, table, top) if config.split == "official" and is_file(table) else None
    for category, base in found.items():
        # Values of a mask number the types of defect from 1.
        masks = [Mask("anomaly", file.stem, file) for file in images(base / "Data/Masks/Anomaly")]
        for one in assemble(base, category, PARTS, masks, mask_above=0):
            if official is None or isinstance(one, Rejected):
                yield one
            elif (path := f"{category}/{one.name}") in official:
                yield replace(one, split=official[path])
            else:
                reason = f"{table.name} does not name it; add a line, or set data.split: grouped"
                yield Rejected(str(one.file), category, reason)


def _official(config: DataConfig, table: Path, top: Path) -> dict[str, OfficialSplit]:
    """Split by path below `top`, for the configured categories."""
    splits: dict[str, OfficialSplit] = {}
    first: dict[str, str] = {}
    for line in lines(table, ("object", "split", "image")):
        if line.cells["object"] not in config.categories:
            continue
        path, split = line.image("image", top), line.cells["split"]
        if split not in SPLITS:
            raise UserError(f"{line.where}: split {split!r}; it is train or test")
        if path in splits:
            raise UserError(f"{line.where}: {path} stands in {first[path]} already; remove one of the two")
        splits[path], first[path] = SPLITS[split], line.where
    return splits
