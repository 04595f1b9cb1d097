"""Scores by pixels: the standardised pixel maps of an image under each of its masks, and one number for each map.

Legend: S side in pixels.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from stages.detectors.ear.config import EarConfig, MaskKind
from stages.detectors.ear.restore import as_tensor, restore
from stages.detectors.ear.unet import UNet
from stages.detectors.shared.highest import top_mean
from stages.detectors.shared.named_arrays import arrays_below
from stages.detectors.shared.pixel_maps import PIXEL_KINDS, PixelKind, pixel_scale
from stages.detectors.shared.resizing import to_bytes
from stages.types import Fitted, ScoreMap


def score_by_pixels(
    network: UNet,
    image: NDArray[np.uint8],
    masks: Mapping[MaskKind, NDArray[np.bool_]],
    fitted: Fitted,
    config: EarConfig,
) -> ScoreMap:
    """Score one image (S, S, 3) by pixels under each of its masks (S, S).

    Map and image score are those of the deployed kinds of mask and pixel map; with `compare: features`, of `ssim`.
    Extras: the score by each kind of pixel map with the deployed mask (`ssim`, `msgms`), and by the deployed kind of
    pixel map with each mask (`score_<kind>`). Pictures: `restoration`, `mask` and `mask_<kind>`.
    """
    deployed: PixelKind = "ssim" if config.compare == "features" else config.compare
    maps: dict[tuple[MaskKind, PixelKind], NDArray[np.float32]] = {}
    restorations = {}
    pixels = as_tensor(image[None])
    for kind, mask in masks.items():
        restoration, differences = restore(network, pixels, torch.from_numpy(mask)[None, None], fitted.info["scale"])
        for by, difference in differences.items():
            good = arrays_below(fitted.arrays, f"{kind}.{by}.")
            maps[kind, by] = standardise(difference.numpy(), good["mean"], good["spread"], config)
        restorations[kind] = to_bytes(restoration[0])
    scores = {key: top_mean(plane, config.top_fraction) for key, plane in maps.items()}
    return ScoreMap(
        anomaly_map=maps[config.mask, deployed],
        image_score=scores[config.mask, deployed],
        extras={
            **{by: scores[config.mask, by] for by in PIXEL_KINDS},
            **{f"score_{kind}": scores[kind, deployed] for kind in masks},
        },
        pictures={
            "restoration": restorations[config.mask],
            "mask": masks[config.mask].astype(np.float16),
            **{f"mask_{kind}": mask.astype(np.float16) for kind, mask in masks.items()},
        },
    )


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
