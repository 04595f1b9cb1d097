"""For each detector, the test images with its best and worst results, each with map, true mask and restoration."""

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
from pipeline.report.pictures import SIDE, Picture, detector_picture, embed, heat_map, mark_defect, thumbnail
from stages.array_store import StoredRows

PER_KIND = 4
MAX_CASES = 240
"""Cases in a whole report at full size. With 10 to 40 kB each, the page stays below 10 MB."""
SMALL = 144
"""Side in pixels of the pictures if there are more cases, because each detector gets one of each kind."""
COMPARISON_PREFIX = "picture_mask_"
"""Masks that a detector computed only for comparison. Their metrics are shown instead."""
CAPTIONS = {"mask": "computed mask"}
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
    """Whether the decision is wrong."""
    score: str
    defect_type: str
    pictures: Sequence[Picture]


@dataclass(frozen=True)
class Kind:
    """Cases of the same kind."""

    title: str
    cases: Sequence[Case]


@dataclass(frozen=True)
class GalleryLimits:
    """Size of each gallery."""

    per_kind: int
    """Cases of each kind."""
    side: int
    """Longer side of the pictures, in pixels."""


def gallery_limits(galleries: int) -> GalleryLimits:
    """Limits that keep the page small: with more galleries, fewer cases each; in the end, smaller pictures."""
    per_kind = MAX_CASES // (len(KINDS) * max(galleries, 1))
    return GalleryLimits(max(1, min(PER_KIND, per_kind)), SIDE if per_kind else SMALL)


def select_cases(predictions: pd.DataFrame, count: int) -> dict[str, list[int]]:
    """By title of the kind, rows of at most `count` test images, most extreme first. No image is in two kinds."""
    table = predictions.assign(row=np.arange(len(predictions)))
    test = table[table["split"] == "test"].sort_values(["image_score", "path"])
    taken: set[int] = set()
    selected = {}
    for title, label, low_first in KINDS:
        rows = [int(row) for row in test.loc[test["label"] == label, "row"] if row not in taken]
        selected[title] = (rows if low_first else rows[::-1])[:count]
        taken.update(selected[title])
    return selected


def gallery(category: str, detector: str, predictions: pd.DataFrame, limits: GalleryLimits) -> list[Kind]:
    """Cases of each kind of a detector; kinds without cases are left out."""
    rows_by_kind = select_cases(predictions, limits.per_kind)
    rows = [row for rows_of_kind in rows_by_kind.values() for row in rows_of_kind]
    if not rows:
        return []
    folder = paths.maps(category, detector)
    maps = StoredRows(folder / "maps.zarr")[np.array(rows)]
    map_limits = (float(np.median(maps)), float(np.quantile(maps, 0.998)))
    pictures = {_caption(file): StoredRows(file)[np.array(rows)] for file in _picture_files(folder)}
    cases = {}
    for i, row in enumerate(rows):
        prediction = predictions.iloc[row].to_dict()
        image = thumbnail(paths.RAW / prediction["path"], limits.side)
        own_pictures = {caption: values[i] for caption, values in pictures.items()}
        cases[row] = _case(prediction, image, maps[i], map_limits, own_pictures)
    return [
        Kind(title, [cases[row] for row in rows_of_kind])
        for title, rows_of_kind in rows_by_kind.items()
        if rows_of_kind
    ]


def _picture_files(folder: Path) -> Iterator[Path]:
    return (file for file in sorted(folder.glob("picture_*.zarr")) if not file.name.startswith(COMPARISON_PREFIX))


def _caption(file: Path) -> str:
    name = file.name.removeprefix("picture_").removesuffix(".zarr")
    return CAPTIONS.get(name, name.replace("_", " "))


def _case(
    prediction: Mapping[Any, Any],
    image: Image.Image,
    anomaly_map: NDArray[np.floating],
    map_limits: Sequence[float],
    own_pictures: Mapping[str, NDArray[Any]],
) -> Case:
    """
    Args:
        own_pictures: what the detector wrote beside its map, by caption.
    """
    name = Path(prediction["path"]).name
    pictures = [
        embed(image, "image", name),
        embed(heat_map(image, anomaly_map, map_limits), "anomaly map", f"anomaly map of {name}"),
    ]
    if prediction["mask_path"]:
        marked = mark_defect(image, paths.RAW / prediction["mask_path"])
        pictures.append(embed(marked, "true mask", f"true mask of {name}"))
    for caption, values in own_pictures.items():
        pictures.append(embed(detector_picture(values, image), caption, f"{caption} of {name}"))
    verdict, wrong = _verdict(prediction)
    score = f"{prediction['image_score']:.4g}"
    return Case(name, verdict, wrong, score, prediction["defect_type"] or "", pictures)


def _verdict(prediction: Mapping[Any, Any]) -> tuple[str, bool]:
    """The decision in the light of the true label, and whether it is wrong."""
    if pd.isna(prediction["decision"]):
        return ("defect" if prediction["label"] else "good"), False
    return {
        (1, 0): ("missed defect", True),
        (1, 1): ("found defect", False),
        (0, 1): ("false alarm", True),
        (0, 0): ("good, passed", False),
    }[prediction["label"], prediction["decision"]]
