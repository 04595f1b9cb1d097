"""Descriptors of an image, in a few numbers: mean feature, brightness, sharpness.

Legend: N, B images; S side in pixels; h, w patch grid; C channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.types import Rows, UserError, batches

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the grey value (ITU-R BT.601), as in Pillow."""
BATCH = 64
"""Images read at a time."""


@dataclass(frozen=True)
class Descriptors:
    """Descriptors of N images, one row per image."""

    features: NDArray[np.float32]
    """(N, C) mean feature over the patches."""
    brightness: NDArray[np.float64]
    """(N,) mean grey value, 0 to 1."""
    sharpness: NDArray[np.float64]
    """(N,) variance of the Laplacian of the grey values, which are 0 to 1."""
    lots: NDArray[np.object_] | None = None
    """(N,) the lot of each image, such as a delivery; related images share one. None: the images are unrelated."""

    def __post_init__(self) -> None:
        lengths = (len(self.features), len(self.brightness), len(self.sharpness))
        if len(set(lengths)) != 1 or self.features.ndim != 2:
            shape = "x".join(map(str, self.features.shape))
            raise UserError(
                f"drift: {shape} features, {lengths[1]} brightnesses and {lengths[2]} sharpnesses: the numbers of"
                " images differ"
            )
        if self.lots is not None and len(self.lots) != len(self.features):
            raise UserError(f"drift: {len(self.features)} images, but lots of {len(self.lots)}")
        for values in (self.features, self.brightness, self.sharpness):
            if not np.isfinite(values).all():
                row = int(np.argwhere(~np.isfinite(values))[0][0])
                raise UserError(f"drift: a descriptor of image {row} is not finite: remove the image")

    def __len__(self) -> int:
        return len(self.features)


def describe(images: Rows, maps: Rows) -> Descriptors:
    """Compute the descriptors of N images.

    Args:
        images: (N, S, S, 3) uint8, RGB. Sharpness depends on S: compare images of the same side only.
        maps: (N, h, w, C) features of the same images.

    Raises:
        UserError: the numbers of images and features differ, or a descriptor is not finite.
    """
    if len(images) != len(maps):
        raise UserError(f"drift: {len(images)} images, but features of {len(maps)}")
    features = np.empty((len(maps), maps.shape[-1]), np.float32)
    brightnesses, sharpnesses = np.empty(len(images)), np.empty(len(images))
    for rows in batches(len(images), BATCH):
        features[rows] = mean_features(maps[rows])
        grey = grey_values(images[rows])
        brightnesses[rows], sharpnesses[rows] = brightness(grey), sharpness(grey)
    return Descriptors(features, brightnesses, sharpnesses)


def mean_features(maps: NDArray[np.floating]) -> NDArray[np.float32]:
    """(B, h, w, C) features -> (B, C) their means over the patches."""
    return maps.mean((1, 2), dtype=np.float64).astype(np.float32)


def grey_values(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(B, S, S, 3) RGB -> (B, S, S) in 0 to 1."""
    return images @ (np.array(LUMA) / 255)


def brightness(grey: NDArray[np.float64]) -> NDArray[np.float64]:
    """(B, S, S) grey values -> (B,) their means."""
    return grey.mean((1, 2))


def sharpness(grey: NDArray[np.float64]) -> NDArray[np.float64]:
    """(B, S, S) grey values, S >= 3 -> (B,) variance of the Laplacian over the pixels with four neighbours.

    Source: Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", ICPR 2000, section 3 (LAPV).
    """
    centres = grey[:, 1:-1, 1:-1]
    neighbours = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:]
    return (neighbours - 4 * centres).var((1, 2))
