"""Parameters and images that differ between two sides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline.compare.sides import Side
from pipeline.compare.tracked_files import dotted_keys

FIRST = 5
"""Images that are named of each kind of change."""


@dataclass(frozen=True)
class Change:
    """A parameter with different values. None also stands for a missing key."""

    key: str
    """Dotted, such as `knn.k`."""
    a: Any
    b: Any


@dataclass(frozen=True)
class Images:
    """How many images, and the paths of the first few."""

    count: int
    first: tuple[str, ...]


@dataclass(frozen=True)
class DataChanges:
    """Changes in the whole data set, all splits. Images are matched by content."""

    added: Images
    removed: Images
    relabelled: Images
    """With another label or type of defect."""
    moved: Images
    """In another split."""
    total_a: int
    total_b: int

    @property
    def any(self) -> bool:
        return any(images.count for images in (self.added, self.removed, self.relabelled, self.moved))


def changed_params(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[Change, ...]:
    """Parameters whose values differ, in B's order, then those that only A has."""
    old, new = dotted_keys(a), dotted_keys(b)
    keys = [*new, *(key for key in old if key not in new)]
    return tuple(Change(key, old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key))


def changed_data(a: Side, b: Side) -> DataChanges | str:
    """What changed in the data set; or in words why a manifest cannot be read."""
    if a.manifest is None or b.manifest is None:
        return "; ".join(f"{side.name}: {side.problems['manifest']}" for side in (a, b) if side.manifest is None)
    old, new = _by_content(a.manifest), _by_content(b.manifest)
    common = old.index.intersection(new.index)
    before, after = old.loc[common], new.loc[common]
    relabelled = (before[["label", "defect_type"]] != after[["label", "defect_type"]]).any(axis=1)
    return DataChanges(
        added=_images(new.loc[new.index.difference(old.index)]),
        removed=_images(old.loc[old.index.difference(new.index)]),
        relabelled=_images(after[relabelled]),
        moved=_images(after[before["split"] != after["split"]]),
        total_a=len(old),
        total_b=len(new),
    )


def _by_content(manifest: pd.DataFrame) -> pd.DataFrame:
    """Rows indexed by category, sha256, and a number that tells files of the same content apart."""
    rows = manifest.sort_values("path")
    number = rows.groupby(["category", "sha256"]).cumcount()
    return rows.set_index(pd.MultiIndex.from_arrays([rows["category"], rows["sha256"], number]))


def _images(rows: pd.DataFrame) -> Images:
    return Images(len(rows), tuple(sorted(rows["path"])[:FIRST]))
