"""An anomaly map in colour over its image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDES = (256, 1024)
"""Least and greatest length in pixels of the longer side of an overlay."""


def overlay(image: Image.Image, plane: NDArray[np.floating], limits: Sequence[float] | None) -> Image.Image:
    """The grey image under the map (S, S): the more anomalous, the brighter and the less transparent.

    Args:
        limits: map values that are drawn darkest and brightest; None: the map's own median and maximum.
    """
    import matplotlib

    width, height = image.size
    scale = np.clip(max(width, height), *SIDES) / max(width, height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    low, high = limits or (float(np.median(plane)), float(plane.max()))
    share = np.clip((np.asarray(plane, np.float64) - low) / max(high - low, 1e-12), 0, 1).astype(np.float32)
    level = np.asarray(Image.fromarray(share).resize(size, Image.Resampling.BILINEAR))  # (H, W)
    grey = np.asarray(image.convert("L").resize(size, Image.Resampling.BILINEAR), np.float32)[..., None]
    colours = matplotlib.colormaps["inferno"](level)[..., :3] * 255  # (H, W, 3)
    opacity = (0.15 + 0.7 * level)[..., None]
    return Image.fromarray(np.round(grey * (1 - opacity) + colours * opacity).astype(np.uint8))
