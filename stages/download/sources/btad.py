"""BTAD (beanTech Anomaly Detection): three products, 01 to 03.

Source: Mishra et al., "VT-ADL: A Vision Transformer Network for Image Anomaly Detection and Localization", ISIE 2021.
Licence: CC BY-SA 4.0.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from stages.download.config import DataConfig
from stages.download.found import Rejected, SourceImage
from stages.download.sources.files import images, is_folder, mask_folder
from stages.download.sources.parts import Mask, Part, assemble, category_folders

LAYOUT = "<category>/train/ok, <category>/test/{ok,ko}, <category>/ground_truth/ko"
PARTS = (Part("train/ok", "train"), Part("test/ok", "test"), Part("test/ko", "test", "ko"))


def find(config: DataConfig, root: Path) -> Iterator[SourceImage | Rejected]:
    """Images of every product; the official split is train and test. Images and masks may have different file endings.

    Raises:
        UserError: the folder has another layout or lacks a category.
    """
    bases = category_folders(config, root, lambda folder: is_folder(folder / "train/ok"), LAYOUT)
    for category, base in bases.items():
        masks = [Mask("ko", file.stem, file) for file in images(mask_folder(base, "ground_truth") / "ko")]
        yield from assemble(base, category, PARTS, masks, mask_above=0)
