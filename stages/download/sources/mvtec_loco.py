"""MVTec LOCO AD: 5 categories with structural defects and with logical ones (a part too many, in the wrong place).

Source: Bergmann et al., "Beyond Dents and Scratches", IJCV 2022. Licence: CC BY-NC-SA 4.0. The authors' own evaluation
lets some defects saturate (`defects_config.json`); here every pixel of every mask counts alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from stages.download.config import DataConfig
from stages.download.found import Found, Rejected
from stages.download.sources.files import folders, images, is_folder
from stages.download.sources.parts import Mask, Part, assemble, categories

LAYOUT = (
    "<category>/train/good, <category>/validation/good, <category>/test/{good,logical_anomalies,structural_anomalies}, "
    "<category>/ground_truth/<type>/<name>/000.png"
)
KINDS = ("logical_anomalies", "structural_anomalies")
PARTS = (
    Part("train/good", "train"),
    Part("validation/good", "validation"),
    Part("test/good", "test"),
    *(Part(f"test/{kind}", "test", kind) for kind in KINDS),
)


def find(config: DataConfig, root: Path) -> Iterator[Found | Rejected]:
    """Images of every category; the official split is train, validation and test.

    Raises:
        UserError: another layout, or a category that is not there.
    """
    found = categories(config, root, _is_category, LAYOUT)
    for category, base in found.items():
        yield from assemble(base, category, PARTS, _masks(base), mask_above=0)


def _is_category(folder: Path) -> bool:
    return is_folder(folder / "train/good") and any(is_folder(folder / "test" / kind) for kind in KINDS)


def _masks(base: Path) -> Iterator[Mask]:
    """One file a defect of an image; its value tells the type of defect (1 to 255), so any value above 0 counts."""
    for kind in KINDS:
        for folder in folders(base / "ground_truth" / kind):
            for file in images(folder):
                yield Mask(kind, folder.name, file)
