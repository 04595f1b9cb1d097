"""Per detector, the test images on which it did best and worst, each with map, true mask and restoration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from pipeline.project import paths
from pipeline.report.pictures import SIDE, Picture, heat, marked, picture, stored, thumbnail
from stages.array_store import StoredRows

PER_KIND = 4
MOST_CASES = 240
"""Cases in a whole report at full size: at 10 to 40 kB each they stay below 10 MB."""
SMALL = 144
"""Side of their pictures where there are more, since each detector has one of each kind."""
COMPARED = "picture_mask_"
"""Masks that a detector drew only to compare them: their figures tell more."""
CAPTIONS = {"mask": "drawn mask"}
KINDS = (
    ("Worst: defects with the lowest scores", 1, True),
    ("Worst: good parts with the highest scores", 0, False),
    ("Best: defects with the highest scores", 1, False),
    ("Best: good parts with the lowest scores", 0, True),
)
"""Title, label, whether low scores come first."""


@dataclass(frozen=True)
class Case:
    """One test image."""

    name: str
    verdict: str
    wrong: bool
    """Whether the decision is."""
    score: str
    defect_type: str
    pictures: Sequence[Picture]


@dataclass(frozen=True)
class Kind:
    title: str
    cases: Sequence[Case]


@dataclass(frozen=True)
class Room:
    """What a gallery may take."""

    per_kind: int
    """Cases of each kind."""
    side: int
    """Of their pictures, in pixels."""


def room(galleries: int) -> Room:
    """The more galleries, the fewer cases each has, and at last the smaller they are: the page must stay small."""
    fit = MOST_CASES // (len(KINDS) * max(galleries, 1))
    return Room(max(1, min(PER_KIND, fit)), SIDE if fit else SMALL)


def chosen(table: pd.DataFrame, count: int) -> dict[str, list[int]]:
    """Rows of the test images of each kind, most telling first; no image is of two kinds."""
    test = table.assign(row=np.arange(len(table)))
    test = test[test["split"] == "test"].sort_values(["image_score", "path"])
    taken: set[int] = set()
    found = {}
    for title, label, low_first in KINDS:
        rows = [int(row) for row in test.loc[test["label"] == label, "row"] if row not in taken]
        found[title] = (rows if low_first else rows[::-1])[:count]
        taken.update(found[title])
    return found


def gallery(category: str, detector: str, table: pd.DataFrame, space: Room) -> list[Kind]:
    """Cases of each kind, of a detector's predictions; kinds without cases are left out."""
    rows = chosen(table, space.per_kind)
    shown = [row for some in rows.values() for row in some]
    if not shown:
        return []
    folder = paths.maps(category, detector)
    maps = StoredRows(folder / "maps.zarr")[np.array(shown)]
    limits = (float(np.median(maps)), float(np.quantile(maps, 0.998)))
    own = {_title(file): StoredRows(file)[np.array(shown)] for file in _pictures(folder)}
    cases = {}
    for place, row in enumerate(shown):
        pictures = {name: values[place] for name, values in own.items()}
        one = table.iloc[row].to_dict()
        image = thumbnail(paths.RAW / one["path"], space.side)
        cases[row] = _case(one, image, maps[place], limits, pictures)
    return [Kind(title, [cases[row] for row in some]) for title, some in rows.items() if some]


def _pictures(folder: Path) -> Iterator[Path]:
    return (file for file in sorted(folder.glob("picture_*.zarr")) if not file.name.startswith(COMPARED))


def _title(file: Path) -> str:
    name = file.name.removeprefix("picture_").removesuffix(".zarr")
    return CAPTIONS.get(name, name.replace("_", " "))


def _case(
    row: Mapping[Any, Any],
    image: Image.Image,
    plane: NDArray[np.floating],
    limits: Sequence[float],
    own: Mapping[str, NDArray[Any]],
) -> Case:
    name = Path(row["path"]).name
    pictures = [
        picture(image, "image", name),
        picture(heat(image, plane, limits), "anomaly map", f"anomaly map of {name}"),
    ]
    if row["mask_path"]:
        pictures.append(picture(marked(image, paths.RAW / row["mask_path"]), "true mask", f"true mask of {name}"))
    pictures += [picture(stored(values, image), title, f"{title} of {name}") for title, values in own.items()]
    verdict, wrong = _verdict(row)
    return Case(name, verdict, wrong, f"{row['image_score']:.4g}", row["defect_type"] or "", pictures)


def _verdict(row: Mapping[Any, Any]) -> tuple[str, bool]:
    """Truth and decision in two words, and whether they differ."""
    if pd.isna(row["decision"]):
        return ("defect" if row["label"] else "good"), False
    return {
        (1, 0): ("missed defect", True),
        (1, 1): ("found defect", False),
        (0, 1): ("false alarm", True),
        (0, 0): ("good, passed", False),
    }[row["label"], row["decision"]]
