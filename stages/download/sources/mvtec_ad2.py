"""MVTec AD 2: 8 categories, with test images under other lighting than the training images.

Source: Heckler-Kram et al., "The MVTec AD 2 Dataset", arXiv 2503.21622. Licence: CC BY-NC-SA 4.0. The folders
test_private and test_private_mixed have no published labels and are ignored.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from stages.download.config import DataConfig
from stages.download.found import Rejected, SourceImage
from stages.download.sources.files import images, is_folder, mask_folder
from stages.download.sources.parts import Mask, Part, assemble, category_folders

LAYOUT = "<category>/train/good, <category>/validation/good, <category>/test_public/{good,bad,ground_truth/bad}"
PARTS = (
    Part("train/good", "train"),
    Part("validation/good", "validation"),
    Part("test_public/good", "test"),
    Part("test_public/bad", "test", "bad"),
)


def find(config: DataConfig, root: Path) -> Iterator[SourceImage | Rejected]:
    """Images of every category; the official split is train, validation and (public) test.

    Raises:
        UserError: the folder has another layout or lacks a category.
    """
    bases = category_folders(config, root, lambda folder: is_folder(folder / "test_public"), LAYOUT)
    for category, base in bases.items():
        truth = images(mask_folder(base / "test_public", "ground_truth") / "bad")
        masks = [Mask("bad", file.stem.removesuffix("_mask"), file) for file in truth]
        yield from assemble(base, category, PARTS, masks, group=_scene)


def _scene(part: Part, file: Path) -> str:
    """000_regular.png and 000_overexposed.png show the same scene; each folder counts its scenes from 0."""
    return f"{part.folder}/{file.stem.split('_')[0]}"
