"""What bundle.json says about the training images and about the range of the anomaly maps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.project import paths
from pipeline.project.params import Params
from stages.array_store import StoredRows

MAP_PIXELS = 4096
"""Pixels of each good validation map, evenly spaced, from which the colour range of overlays is computed."""


def training_images(params: Params, root: Path) -> dict[str, Any]:
    """By category: number of good training and validation images, most common size, range of sizes, modes,
    and depth.

    Sizes are in pixels; `common` is [width, height], `width` and `height` are [minimum, maximum]. `white` is the grey
    value that counts as white in files of more than 8 bits.
    """
    manifest = pd.read_parquet(root / paths.MANIFEST)
    manifest = manifest[manifest["split"].isin(["train", "validation"]) & (manifest["label"] == 0)]
    by_category = {}
    for category in params.data.categories:
        chosen = manifest[manifest["category"] == category]
        sizes = chosen[["width", "height"]]
        by_category[category] = {
            "count": len(chosen),
            "common": [int(side) for side in sizes.value_counts().index[0]],
            **{side: [int(sizes[side].min()), int(sizes[side].max())] for side in ("width", "height")},
            "modes": sorted(set(chosen["mode"])),
            "white": int(chosen["white"].iloc[0]),
        }
    return by_category


def map_limits(folder: Path) -> list[float] | None:
    """Values of the anomaly map with the darkest and the brightest colour of overlays; None without validation images.

    They are the median and the 99.9 % quantile of the pixels of the good validation images' maps.

    Args:
        folder: of a detector's maps and scores.
    """
    validation = np.flatnonzero((pd.read_parquet(folder / "scores.parquet")["split"] == "validation").to_numpy())
    if not len(validation):
        return None
    maps = StoredRows(folder / "maps.zarr")
    planes = (maps[int(i)].reshape(-1) for i in validation)
    pixels = np.concatenate([plane[:: max(1, -(-plane.size // MAP_PIXELS))] for plane in planes])
    return [float(value) for value in np.quantile(pixels.astype(np.float64), (0.5, 0.999))]
