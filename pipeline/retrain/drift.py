"""Whether new images look like the training images to a network that was trained on neither."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.project import paths
from pipeline.project.params import Params
from pipeline.stage_io.rows import ImageFiles
from stages.drift.config import TESTS, DriftConfig
from stages.drift.descriptors import Descriptors, describe
from stages.drift.drift import Drift, compare
from stages.types import Extract

SIDE, PATCH, NETWORK = 224, 8, "lite0"
MAX_IMAGES = 500
"""Training images, and new images, that are sampled from each category. More take minutes and find no more drift."""


def measure_drift(folder: Path, params: Params, new: Collection[str]) -> dict[str, Drift]:
    """By category with new good images, compare these with the earlier good training images.

    Args:
        folder: root of a project whose stage `download` has run.
        new: sha256 of the new files, as they are in the source.
    """
    level = params.retrain.drift_level
    enough = max(DriftConfig().permutations, round(len(TESTS) * len(params.data.categories) / level))
    config = DriftConfig(level=level, least=params.retrain.drift_least, permutations=enough)
    manifest = pd.read_parquet(folder / paths.MANIFEST)
    good = manifest[manifest["label"] == 0]
    is_new = good["source_sha256"].isin(new)
    few: dict[str, Drift] = {}
    pairs = {}
    for category in params.data.categories:
        in_category = good["category"] == category
        arrived = good[in_category & is_new]
        before = good[in_category & ~is_new & (good["split"] == "train")]
        if len(arrived) == 0:
            continue
        if len(arrived) < config.least:
            why = f"{len(arrived)} new good images, fewer than retrain.drift_least = {config.least}"
            few[category] = Drift(len(before), len(arrived), config.level, (), why)
            continue
        tables = (_sample(table, params.seed) for table in (before, arrived))
        training, new_ones = (_describe_images(folder, table, params) for table in tables)
        pairs[category] = (training, new_ones)
    drift = few | compare(pairs, config, params.seed)
    return {category: drift[category] for category in params.data.categories if category in drift}


def _describe_images(folder: Path, table: pd.DataFrame, params: Params) -> Descriptors:
    from stages.backbone.imagenet import extractor
    from stages.torch_setup import device_named

    images = ImageFiles([folder / paths.RAW / path for path in table["path"]], SIDE)
    maps = _FeatureMaps(images, extractor(NETWORK, PATCH, device_named(params.compute.device)))
    lots = table["group"].to_numpy(dtype=object) if table["group"].duplicated().any() else None
    return replace(describe(images, maps), lots=lots)


@dataclass(frozen=True)
class _FeatureMaps:
    """Feature maps of N image files, (N, h, w, C), computed on access."""

    images: ImageFiles
    extract: Extract

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.images), *self.extract(np.zeros((1, SIDE, SIDE, 3), np.uint8)).shape[1:])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: slice) -> NDArray[np.float32]:
        return self.extract(self.images[key])


def _sample(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """At most MAX_IMAGES random rows, in their order."""
    if len(table) <= MAX_IMAGES:
        return table
    rows = np.random.default_rng(seed).choice(len(table), MAX_IMAGES, replace=False)
    return table.iloc[np.sort(rows)]
