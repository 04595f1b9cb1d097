"""Magnetic tiles: 1,344 grey images, good ones and five defect types; each part is photographed under several
exposures.

Source: Huang et al., "Surface defect saliency of magnetic tile", The Visual Computer 2020. The publisher states no
licence and asks for a citation. Masks are anti-aliased; a few of MT_Uneven are empty.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

from stages.download.config import DataConfig
from stages.download.found import Rejected, SourceImage
from stages.download.sources.files import images, is_folder, layout_root
from stages.download.sources.parts import Mask, Part, assemble, single_category
from stages.types import UserError

LAYOUT = "MT_Free/Imgs and MT_{Blowhole,Break,Crack,Fray,Uneven}/Imgs, each with NAME.jpg and its mask NAME.png"
DEFECT_TYPES = ("Blowhole", "Break", "Crack", "Fray", "Uneven")
PARTS = (
    Part("MT_Free/Imgs"),
    *(Part(f"MT_{defect_type}/Imgs", defect_type=defect_type.lower()) for defect_type in DEFECT_TYPES),
)
GAP = 150
"""Frames are numbered in the order in which they were taken: a greater step between two numbers starts another part."""


def find(config: DataConfig, root: Path) -> Iterator[SourceImage | Rejected]:
    """The tiles; there is no official split. A defect folder may be missing, since parts of the data set circulate.

    Raises:
        UserError: the folder has another layout; several categories; an image has no frame number.
    """
    category = single_category(config)
    base = layout_root(root, lambda folder: is_folder(folder / "MT_Free/Imgs"), LAYOUT)
    tiles = [file for part in PARTS for file in images(base / part.folder) if _is_tile(file)]
    first = first_frames(map(_frame, tiles))
    masks = [
        Mask(part.defect_type, file.stem, file)
        for part in PARTS
        if part.defect_type  # the masks of MT_Free are empty
        for file in images(base / part.folder)
        if not _is_tile(file)
    ]
    yield from assemble(
        base, category, PARTS, masks, group=lambda _part, file: str(first[_frame(file)]), is_image=_is_tile
    )


def first_frames(numbers: Iterable[int]) -> dict[int, int]:
    """For each frame number the first number of its run, in which no step exceeds `GAP`."""
    ordered = sorted(set(numbers))
    first = {number: number for number in ordered}
    for previous, number in pairwise(ordered):
        if number - previous <= GAP:
            first[number] = first[previous]
    return first


def _is_tile(file: Path) -> bool:
    return file.suffix.lower() != ".png"


def _frame(file: Path) -> int:
    match = re.search(r"num_(\d+)", file.stem)
    if match is None:
        raise UserError(f"{file}: the name holds no frame number, as exp1_num_4727.jpg does; rename or remove it")
    return int(match.group(1))
