"""Synthetic tokens y = F(x) + G + noise, with outliers, and a backbone that gives such tokens for images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stages.backbone.networks.interface import Features
from stages.denoise.config import DenoiseConfig
from stages.denoise.per_image.views import make_views


@dataclass(frozen=True)
class Truth:
    tokens: np.ndarray
    coords: np.ndarray
    content: np.ndarray
    """(V, h, w, C) F at the tokens."""
    artifact: np.ndarray
    outlier: np.ndarray
    """(V, h, w) bool."""


def synthetic(
    *,
    grid=(6, 6),
    channels=8,
    views=24,
    noise=0.0,
    outliers=0.0,
    seed=0,
    waves=1.5,
    artifact=0.7,
    dtype=np.float64,
    **crops,
) -> Truth:
    """F: one random plane wave a channel, at most `waves` periods over the image. G: white, mean 0."""
    rng = np.random.default_rng(seed)
    config = DenoiseConfig(views=views, **{"crop_area": (0.1, 0.5), **crops})  # the paper's
    image = np.zeros((grid[0] * 2, grid[1] * 2, 3), np.uint8)
    coords = make_views(image, 8, grid, config, seed).coords
    direction = rng.uniform(-waves, waves, (channels, 2))
    content = np.sin(2 * np.pi * (coords @ direction.T) + rng.uniform(0, 2 * np.pi, channels))
    offset = artifact * rng.standard_normal((*grid, channels))
    offset -= offset.mean((0, 1))
    outlier = rng.random(coords.shape[:3]) < outliers
    tokens = content + offset + noise * rng.standard_normal(content.shape)
    tokens[outlier] += 20 * rng.standard_normal((int(outlier.sum()), channels))
    return Truth(tokens.astype(dtype), coords, content, offset, outlier)


class PatchMeans:
    """A stand-in for a backbone: channel means of each patch, mixed, plus an artifact by position."""

    digest = "patch-means"
    heads = 0

    def __init__(self, side=32, grid=(8, 8), channels=6, strength=0.5, seed=0):
        rng = np.random.default_rng(seed)
        self.image_side, self.grid, self.channels = side, grid, channels
        self.mix = rng.standard_normal((3, channels))
        self.artifact = strength * rng.standard_normal((*grid, channels))
        self.artifact -= self.artifact.mean((0, 1))

    def extract(self, images):
        h, w = self.grid
        patches = images.astype(np.float64).reshape(len(images), h, self.image_side // h, w, self.image_side // w, 3)
        tokens = patches.mean((2, 4)) / 64 @ self.mix + self.artifact
        return Features(tokens.astype(np.float32), None)


def picture(side=64, seed=0):
    """A smooth random image (side, side, 3) uint8 with nothing symmetric about it."""
    rng = np.random.default_rng(seed)
    y, x = np.meshgrid(np.linspace(0, 1, side), np.linspace(0, 1, side), indexing="ij")
    waves = rng.uniform(-2, 2, (3, 2))
    value = np.sin(2 * np.pi * (y[..., None] * waves[:, 0] + x[..., None] * waves[:, 1]) + np.arange(3))
    return (127 + 120 * value * (0.4 + 0.6 * x[..., None])).astype(np.uint8)
