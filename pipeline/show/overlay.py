"""An anomaly map in colour over its image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LONGER_SIDE = (256, 1024)
"""Minimum and maximum of the longer side of an overlay, in pixels."""


def overlay(image: Image.Image, anomaly_map: NDArray[np.floating], limits: Sequence[float] | None) -> Image.Image:
    """The image in grey with its anomaly map in colour. Higher values are brighter and less transparent.

    Args:
        image: of any size and mode. The overlay has its aspect ratio.
        anomaly_map: (S, S).
        limits: map values that get the darkest and the brightest colour. None: median and maximum of this map.

    Returns:
        RGB; the longer side is that of the image, clipped to `LONGER_SIDE`.
    """
    import matplotlib

    width, height = image.size
    scale = np.clip(max(width, height), *LONGER_SIDE) / max(width, height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    low, high = limits or (float(np.median(anomaly_map)), float(anomaly_map.max()))
    relative = np.clip((np.asarray(anomaly_map, np.float64) - low) / max(high - low, 1e-12), 0, 1).astype(np.float32)
    level = np.asarray(Image.fromarray(relative).resize(size, Image.Resampling.BILINEAR))  # (H, W)
    grey = np.asarray(image.convert("L").resize(size, Image.Resampling.BILINEAR), np.float32)[..., None]
    colours = matplotlib.colormaps["inferno"](level)[..., :3] * 255  # (H, W, 3)
    opacity = (0.15 + 0.7 * level)[..., None]
    return Image.fromarray(np.round(grey * (1 - opacity) + colours * opacity).astype(np.uint8))
