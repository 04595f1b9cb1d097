"""The manifest, and images as rows. Every stage depends on it, because it determines the pixels that a stage sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.project import paths
from stages.images import decode, to_square


def read_manifest() -> pd.DataFrame:
    """One row per image, in manifest order."""
    return pd.read_parquet(paths.MANIFEST)


def rows_of(manifest: pd.DataFrame, category: str | None, *splits: str, label: int | None = None) -> NDArray[np.int64]:
    """Rows of the manifest with a category's images in the given splits; `category` None: all categories."""
    chosen = manifest["split"].isin(splits)
    if category is not None:
        chosen &= manifest["category"] == category
    if label is not None:
        chosen &= manifest["label"] == label
    return np.flatnonzero(chosen.to_numpy())


def good_digests(manifest: pd.DataFrame) -> dict[str, list[str]]:
    """Digests of the good images that backbone and denoiser learn from, by split, in manifest order."""
    return {
        split: manifest["sha256"].to_numpy()[rows_of(manifest, None, split, label=0)].tolist()
        for split in ("train", "validation")
    }


@dataclass(frozen=True)
class ImageFiles:
    """Image files as `Rows` of (side, side, 3) uint8, decoded when they are read."""

    files: Sequence[Path]
    side: int

    @classmethod
    def from_manifest(cls, manifest: pd.DataFrame, rows: NDArray[np.int64], side: int) -> ImageFiles:
        return cls([paths.RAW / path for path in manifest["path"].to_numpy()[rows]], side)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.files), self.side, self.side, 3)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, key: Any, /) -> NDArray[np.uint8]:
        chosen = np.arange(len(self.files))[key]
        if chosen.ndim == 0:
            return to_square(decode(self.files[int(chosen)].read_bytes()), self.side)
        out = np.empty((len(chosen), self.side, self.side, 3), np.uint8)
        for position, i in enumerate(chosen):
            out[position] = self[int(i)]
        return out
