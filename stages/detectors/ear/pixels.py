"""EAR in pixels: statistics of good images' pixel maps, the standardised maps of an image under each of its masks, and
one number for each map.

Legend: N images; S side in pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from stages.detectors.ear.config import EarConfig, MaskKind
from stages.detectors.ear.restore import as_tensor, restore
from stages.detectors.ear.unet import UNet
from stages.detectors.shared.highest import top_mean
from stages.detectors.shared.named_arrays import arrays_below
from stages.detectors.shared.pixel_maps import (
    PIXEL_KINDS,
    PixelKind,
    PixelStatistics,
    dissimilarity,
    pixel_scale,
    to_bytes,
)
from stages.types import Fitted, ScoreMap

Masks = Mapping[MaskKind, NDArray[np.bool_]]


class PixelFitter:
    """Fits the statistics of good images' pixel maps, for each kind of mask."""

    def __init__(self, network: UNet, kinds: tuple[MaskKind, ...], scale: int, side: int) -> None:
        self._network, self._scale = network, scale
        self._statistics = {kind: PixelStatistics(side) for kind in kinds}

    def add(self, images: NDArray[np.uint8], masks: Masks) -> dict[str, NDArray[Any]]:
        """Add good images (N, S, S, 3) with their masks (N, S, S); the statistics of all images added so far."""
        arrays = dict[str, NDArray[Any]]()
        for kind, statistics in self._statistics.items():
            for image, mask in zip(images, masks[kind], strict=True):
                statistics.add(_restored(self._network, image, mask, self._scale)[1])
            arrays |= statistics.to_arrays(f"{kind}.")
        return arrays


def score_by_pixels(
    network: UNet, image: NDArray[np.uint8], masks: Masks, fitted: Fitted, config: EarConfig
) -> ScoreMap:
    """Score one image (S, S, 3) by pixels under each of its masks (S, S).

    Map and image score are those of the deployed kinds of mask and pixel map.
    Extras: the score by each kind of pixel map with the deployed mask (`ssim`, `msgms`), and by the deployed kind of
    pixel map with each mask (`score_<kind>`). Pictures: `restoration`, `mask` and `mask_<kind>`.
    """
    maps: dict[tuple[MaskKind, PixelKind], NDArray[np.float32]] = {}
    restorations = {}
    for kind, mask in masks.items():
        restorations[kind], differences = _restored(network, image, mask, fitted.info["scale"])
        for by, difference in differences.items():
            good = arrays_below(fitted.arrays, f"{kind}.{by}.")
            maps[kind, by] = standardise(difference, good["mean"], good["spread"], config)
    scores = {key: top_mean(plane, config.top_fraction) for key, plane in maps.items()}
    return ScoreMap(
        anomaly_map=maps[config.mask, config.compare],
        image_score=scores[config.mask, config.compare],
        extras={
            **{by: scores[config.mask, by] for by in PIXEL_KINDS},
            **{f"score_{kind}": scores[kind, config.compare] for kind in masks},
        },
        pictures={"restoration": restorations[config.mask]},
    )


def _restored(
    network: UNet, image: NDArray[np.uint8], mask: NDArray[np.bool_], scale: int
) -> tuple[NDArray[np.uint8], dict[PixelKind, NDArray[np.float32]]]:
    """The restoration (S, S, 3) of an image (S, S, 3) under a mask (S, S), and its pixel maps (S, S) by kind."""
    pixels = as_tensor(image[None])
    restoration = restore(network, pixels, torch.from_numpy(mask)[None, None], scale)
    maps = {kind: dissimilarity(pixels, restoration, kind)[0, 0].numpy() for kind in PIXEL_KINDS}
    return to_bytes(restoration[0]), maps


def standardise(
    difference: NDArray[np.float32], mean: NDArray[np.float32], spread: NDArray[np.float32], config: EarConfig
) -> NDArray[np.float32]:
    """(S, S): how many standard deviations each pixel lies above its mean over good images, smoothed.

    Args:
        difference: (S, S) pixel map of an image.
        mean, spread: (S, S) mean and standard deviation of the pixel maps of good images.
    """
    plane = (difference - mean) / pixel_scale(spread, config.spread_floor)
    return gaussian_filter(plane, config.smooth_sigma, mode="nearest").astype(np.float32)
