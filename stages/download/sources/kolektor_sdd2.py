"""KolektorSDD2: 3,335 images of a surface, 356 of them defective.

Source: Božič et al., "Mixed supervision for surface-defect detection: from weakly to fully supervised learning",
Computers in Industry 2021. Licence: CC BY-NC-SA 4.0. The archive's two stray files `10301 (copy).png` and `10301_GT
(copy).png` are ignored, as is every other file whose name is not a number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from stages.download.config import DataConfig
from stages.download.found import OfficialSplit, Rejected, SourceImage
from stages.download.sources.files import images, is_folder, layout_root
from stages.download.sources.parts import orphan_mask, single_category
from stages.images import ImageFault, decode

LAYOUT = "train/NUMBER.png and test/NUMBER.png, each with its mask NUMBER_GT.png"
SPLITS: tuple[OfficialSplit, ...] = ("train", "test")


def find(config: DataConfig, root: Path) -> Iterator[SourceImage | Rejected]:
    """The images. An image is defective if its mask has any pixel above 0, so every mask is read.

    The publisher's training part holds 246 defects for supervised methods. They belong neither to the training images
    nor to the official test images. With `data.split` official they are left out; with grouped, every defect is a test
    image.

    Raises:
        UserError: the folder has another layout; several categories.
    """
    category = single_category(config)
    base = layout_root(root, lambda folder: all(is_folder(folder / split) for split in SPLITS), LAYOUT)
    for split in SPLITS:
        files = {file.stem: file for file in images(base / split) if file.suffix.lower() == ".png"}
        for stem, file in files.items():
            if match := re.fullmatch(r"(\d+)_GT", stem):
                if match.group(1) not in files:
                    yield orphan_mask(file, category, match.group(1))
            elif re.fullmatch(r"\d+", stem):
                yield from _image(config, category, split, file, files.get(f"{stem}_GT"))


def _image(
    config: DataConfig, category: str, split: OfficialSplit, file: Path, mask: Path | None
) -> Iterator[SourceImage | Rejected]:
    """The image, unless it is a defect of the official training part."""
    if mask is None:
        reason = f"its mask {file.stem}_GT.png is missing, so nothing tells whether it is defective; add the mask"
        yield Rejected(str(file), category, reason)
        return
    try:
        defective = bool(np.asarray(decode(mask.read_bytes())).any())
    except (ImageFault, OSError) as fault:
        yield Rejected(str(file), category, f"its mask {mask.name} cannot be read: {fault}")
        return
    if defective and split == "train" and config.split == "official":
        return
    name = f"{split}/{file.name}"
    masks, defect_type = ((mask,), "defect") if defective else ((), "")
    yield SourceImage(file, name, category, name, defect_type, masks, mask_above=0, split=split)
