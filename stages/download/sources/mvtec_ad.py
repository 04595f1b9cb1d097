"""MVTec AD: 15 categories of objects and textures.

Source: Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021. Licence: CC BY-NC-SA 4.0.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from stages.download.config import DataConfig
from stages.download.found import Rejected, SourceImage
from stages.download.sources.files import folders, images, is_folder, mask_folder
from stages.download.sources.parts import Mask, Part, assemble, category_folders

LAYOUT = "<category>/train/good, <category>/test/<type>, <category>/ground_truth/<type>/<name>_mask.png"


def find(config: DataConfig, root: Path) -> Iterator[SourceImage | Rejected]:
    """Images of every category; the official split is train and test.

    Raises:
        UserError: the folder has another layout or lacks a category.
    """
    bases = category_folders(config, root, lambda folder: is_folder(folder / "train/good"), LAYOUT)
    for category, base in bases.items():
        defect_types = [folder.name for folder in folders(base / "test") if folder.name != "good"]
        parts = [Part("train/good", "train"), Part("test/good", "test")]
        parts += [Part(f"test/{defect_type}", "test", defect_type) for defect_type in defect_types]
        yield from assemble(base, category, parts, _masks(base))


def _masks(base: Path) -> Iterator[Mask]:
    for folder in folders(mask_folder(base, "ground_truth")):
        for file in images(folder):
            yield Mask(folder.name, file.stem.removesuffix("_mask"), file)
