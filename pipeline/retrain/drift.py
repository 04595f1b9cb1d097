"""Whether new images look like the training images, to a network that has learned from neither."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.project import paths
from pipeline.project.params import Params
from pipeline.stage_io.rows import ImageFiles
from stages.drift.config import DriftConfig
from stages.drift.descriptors import Descriptors, describe
from stages.drift.drift import Drift, compare
from stages.types import Extract

SIDE, PATCH, NETWORK = 224, 8, "lite0"
MOST = 500
"""Training images of a category, drawn, and new images, that are compared: more cost minutes and show no more."""


def drift_of(folder: Path, params: Params, new: Collection[str]) -> dict[str, Drift]:
    """By category that has new good images: those against the good training images that were there before.

    Args:
        folder: root of a project whose stage `download` has run.
        new: sha256 of the new files.
    """
    config = DriftConfig(level=params.retrain.drift_level, least=params.retrain.drift_least)
    manifest = pd.read_parquet(folder / paths.MANIFEST)
    good = manifest[manifest["label"] == 0]
    fresh = good["sha256"].isin(new)
    found = {}
    for category in params.data.categories:
        own = good["category"] == category
        arrived = good[own & fresh]
        before = good[own & ~fresh & (good["split"] == "train")]
        if len(arrived) == 0:
            continue
        if len(arrived) < config.least:
            why = f"{len(arrived)} new good images, fewer than retrain.drift_least = {config.least}"
            found[category] = Drift(len(before), len(arrived), config.level, (), why)
            continue
        described = [_described(folder, _some(one, params.seed), params) for one in (before, arrived)]
        found[category] = compare(described[0], described[1], config, params.seed)
    return found


def _described(folder: Path, table: pd.DataFrame, params: Params) -> Descriptors:
    from stages.backbone.imagenet import extractor
    from stages.torch_setup import device_named

    images = ImageFiles([folder / paths.RAW / path for path in table["path"]], SIDE)
    return describe(images, _Maps(images, extractor(NETWORK, PATCH, device_named(params.compute.device))))


@dataclass(frozen=True)
class _Maps:
    """Feature maps of image files, computed when they are asked for."""

    images: ImageFiles
    extract: Extract

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.images), *self.extract(np.zeros((1, SIDE, SIDE, 3), np.uint8)).shape[1:])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: slice) -> NDArray[np.float32]:
        return self.extract(self.images[key])


def _some(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    if len(table) <= MOST:
        return table
    rows = np.random.default_rng(seed).choice(len(table), MOST, replace=False)
    return table.iloc[np.sort(rows)]
