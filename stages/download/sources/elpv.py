"""ELPV: 2,624 electroluminescence images of solar cells with defect probabilities, from the package elpv-dataset.

Source: Buerhop-Lutz et al., "A Benchmark for Visual Identification of Defective Solar Cells in Electroluminescence
Imagery", EU PVSEC 2018; Deitsch et al. 2019, 2021. Licence of the images: CC BY-NC-SA 4.0.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

from stages.download.config import DataConfig
from stages.download.found import Rejected, SourceImage
from stages.types import UserError

CELLS_PER_GROUP = 60
"""Consecutive cells come from one module and look alike: they are always in one split."""
CATEGORIES = ("mono", "poly")


def find(config: DataConfig, root: Path) -> Iterator[SourceImage | Rejected]:
    """The cells of the chosen categories: probability 0 is good, 1 a defect, in between as `config.uncertain` says.

    Args:
        root: not used; the images are in the package.

    Raises:
        UserError: the package is missing, or a category is neither mono nor poly.
    """
    unknown = sorted(set(config.categories) - set(CATEGORIES))
    if unknown:
        raise UserError(f"data.categories: elpv has no {unknown[0]!r}; it has {' and '.join(CATEGORIES)}")
    spec = importlib.util.find_spec("elpv_dataset")
    if spec is None or spec.origin is None:
        raise UserError("the package elpv-dataset is not installed; run `make setup`, or choose data.source: folder")
    data = Path(spec.origin).parent / "data"
    for line in (data / "labels.csv").read_text().splitlines():
        path, probability_text, category = line.split()
        probability = float(probability_text)
        if category not in config.categories or (0 < probability < 1 and config.uncertain == "leave_out"):
            continue
        file = data / path
        number = re.search(r"(\d+)", file.stem)
        if number is None:
            raise UserError(f"{file}: an ELPV file name holds its cell number; reinstall elpv-dataset")
        yield SourceImage(
            file=file,
            name=file.name,
            category=category,
            group=str(int(number.group(1)) // CELLS_PER_GROUP),
            defect_type="" if probability == 0 else "defect",
        )
