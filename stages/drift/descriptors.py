"""What an image looks like in a few numbers: mean feature, brightness, sharpness.

Legend: N, B images; S side in pixels; h, w patch grid; C channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.types import Rows, UserError, batches

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the grey value (ITU-R BT.601), those of Pillow."""
BATCH = 64


@dataclass(frozen=True)
class Descriptors:
    """N images, a row each."""

    features: NDArray[np.float32]
    """(N, C) mean over the patches."""
    brightness: NDArray[np.float64]
    """(N,) mean grey value, 0..1."""
    sharpness: NDArray[np.float64]
    """(N,) variance of the Laplacian of the grey values (0..1)."""

    def __post_init__(self) -> None:
        lengths = (len(self.features), len(self.brightness), len(self.sharpness))
        if len(set(lengths)) != 1 or self.features.ndim != 2:
            shape = "x".join(map(str, self.features.shape))
            raise UserError(f"drift: {shape} features, {lengths[1]} brightnesses and {lengths[2]} sharpnesses")
        for values in (self.features, self.brightness, self.sharpness):
            if not np.isfinite(values).all():
                row = int(np.argwhere(~np.isfinite(values))[0][0])
                raise UserError(f"drift: the description of image {row} is not finite: remove the image")

    def __len__(self) -> int:
        return len(self.features)


def describe(images: Rows, maps: Rows) -> Descriptors:
    """Descriptors of N images, read `BATCH` at a time.

    Args:
        images: (N, S, S, 3) uint8, RGB. Sharpness depends on S: compare images of one side.
        maps: (N, h, w, C) features of the same images.
    """
    if len(images) != len(maps):
        raise UserError(f"drift: {len(images)} images, but features of {len(maps)}")
    features = np.empty((len(maps), maps.shape[-1]), np.float32)
    light, sharp = np.empty(len(images)), np.empty(len(images))
    for rows in batches(len(images), BATCH):
        features[rows] = mean_features(maps[rows])
        grey = grey_values(images[rows])
        light[rows], sharp[rows] = brightness(grey), sharpness(grey)
    return Descriptors(features, light, sharp)


def mean_features(maps: NDArray[np.floating]) -> NDArray[np.float32]:
    """(B, h, w, C) -> (B, C)."""
    return maps.mean((1, 2), dtype=np.float64).astype(np.float32)


def grey_values(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(B, S, S, 3) RGB -> (B, S, S) in 0..1."""
    return images @ (np.array(LUMA) / 255)


def brightness(grey: NDArray[np.float64]) -> NDArray[np.float64]:
    """(B, S, S) grey values -> (B,) their means."""
    return grey.mean((1, 2))


def sharpness(grey: NDArray[np.float64]) -> NDArray[np.float64]:
    """(B, S, S) grey values, S >= 3 -> (B,) variance of the Laplacian over the pixels that have four neighbours.

    Source: Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", ICPR 2000, section 3 (LAPV).
    """
    middle = grey[:, 1:-1, 1:-1]
    beside = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:]
    return (beside - 4 * middle).var((1, 2))
