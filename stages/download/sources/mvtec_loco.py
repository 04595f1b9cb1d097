"""MVTec LOCO AD: 5 categories with structural and logical defects (a part too many, a part in the wrong place).

Source: Bergmann et al., "Beyond Dents and Scratches", IJCV 2022. Licence: CC BY-NC-SA 4.0. The authors' own evaluation
lets some defects saturate (`defects_config.json`); here every pixel of every mask counts alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from stages.download.config import DataConfig
from stages.download.found import Rejected, SourceImage
from stages.download.sources.files import folders, images, is_folder, mask_folder
from stages.download.sources.parts import Mask, Part, assemble, category_folders

LAYOUT = (
    "<category>/train/good, <category>/validation/good, <category>/test/{good,logical_anomalies,structural_anomalies}, "
    "<category>/ground_truth/<type>/<name>/000.png"
)
DEFECT_TYPES = ("logical_anomalies", "structural_anomalies")
PARTS = (
    Part("train/good", "train"),
    Part("validation/good", "validation"),
    Part("test/good", "test"),
    *(Part(f"test/{defect_type}", "test", defect_type) for defect_type in DEFECT_TYPES),
)


def find(config: DataConfig, root: Path) -> Iterator[SourceImage | Rejected]:
    """Images of every category; the official split is train, validation and test.

    Raises:
        UserError: the folder has another layout or lacks a category.
    """
    bases = category_folders(config, root, _is_category, LAYOUT)
    for category, base in bases.items():
        yield from assemble(base, category, PARTS, _masks(base), mask_above=0)


def _is_category(folder: Path) -> bool:
    return is_folder(folder / "train/good") and any(
        is_folder(folder / "test" / defect_type) for defect_type in DEFECT_TYPES
    )


def _masks(base: Path) -> Iterator[Mask]:
    """One file per defect of an image; its pixel value tells the defect type (1 to 255), so any value above 0
    counts."""
    truth = mask_folder(base, "ground_truth")
    for defect_type in DEFECT_TYPES:
        for folder in folders(truth / defect_type):
            for file in images(folder):
                yield Mask(defect_type, folder.name, file)
