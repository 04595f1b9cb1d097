"""Parameters and images that differ between two sides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline.compare.sides import Side, flatten

FIRST = 5
"""Names that are given of each kind of change."""


@dataclass(frozen=True)
class Change:
    """A parameter of another value; None stands for a missing key too."""

    key: str
    a: Any
    b: Any


@dataclass(frozen=True)
class Images:
    """How many images, and the first few of them."""

    count: int
    first: tuple[str, ...]


@dataclass(frozen=True)
class DataChanges:
    """Images of the whole data set, all splits, by content."""

    added: Images
    removed: Images
    relabelled: Images
    """Of another label or type of defect."""
    moved: Images
    """In another split."""
    total_a: int
    total_b: int

    @property
    def any(self) -> bool:
        return any(one.count for one in (self.added, self.removed, self.relabelled, self.moved))


def changed_params(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[Change, ...]:
    """Dotted keys whose values differ, in B's order, then those that only A has."""
    old, new = flatten(a), flatten(b)
    keys = [*new, *(key for key in old if key not in new)]
    return tuple(Change(key, old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key))


def changed_data(a: Side, b: Side) -> DataChanges | str:
    """What became of the images; a reason where a manifest cannot be had."""
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
    """Rows by category, digest, and a running number for files of the same content."""
    rows = manifest.sort_values("path")
    number = rows.groupby(["category", "sha256"]).cumcount()
    return rows.set_index(pd.MultiIndex.from_arrays([rows["category"], rows["sha256"], number]))


def _images(rows: pd.DataFrame) -> Images:
    return Images(len(rows), tuple(sorted(rows["path"])[:FIRST]))
