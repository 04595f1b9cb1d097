"""Rendered parts: textures that vary from part to part, and defects whose masks hold every changed pixel.

Legend of shapes: S image side in pixels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import expit

Image = NDArray[np.uint8]
Field = NDArray[np.float64]

DEFECT_TYPES = ("scratch", "stain", "hole", "bent")
LOT = 10
"""Consecutive parts that share a lot, that is, its tone and the direction of the light."""
VISIBLE = 12
"""Smallest change of a channel, of 255 levels, that makes a pixel part of a defect."""
MIN_SHARE = 1 / 2000
"""Smallest share of the image that a defect covers, so that it can be seen at all."""


@dataclass(frozen=True)
class RenderedPart:
    """A part, and where it is defective."""

    image: Image
    """(S, S, 3) uint8, RGB."""
    mask: NDArray[np.bool_]
    """(S, S), one region: outside it the part is the same with and without its defect. Empty for a good part."""


@dataclass(frozen=True)
class CategoryStyle:
    """What the parts of a category have in common."""

    texture: Callable[[Generator, int, float], Field]
    scale: float
    """Width of the texture's features as a share of the side."""
    contrast: float
    colour: Field
    """(3,) means of the channels, 0..255."""


def render(seed: int, category: str, number: int, side: int, defect_type: str = "") -> RenderedPart:
    """A part of the category, with or without a defect. The same arguments give the same bytes.

    Args:
        number: number of the part among the good or among the defective parts, which are different parts.
        defect_type: one of `DEFECT_TYPES`, or empty for a good part.
    """
    digest = int.from_bytes(hashlib.sha256(category.encode()).digest()[:8])
    source = np.random.default_rng([seed, digest, bool(defect_type), number])
    lot = np.random.default_rng([seed, digest, 2 + bool(defect_type), number // LOT])
    clean = _part(_category_style(np.random.default_rng([seed, digest]), digest), source, lot, side)
    if not defect_type:
        return RenderedPart(clean, np.zeros((side, side), np.bool_))
    for attempt in count(1):
        changed = _levels(DEFECTS[defect_type](source, clean.astype(np.float64), attempt))
        mask = _region(np.abs(changed.astype(np.int64) - clean).max(axis=2) >= VISIBLE)
        if mask.mean() >= MIN_SHARE:
            break
    return RenderedPart(np.where(mask[..., None], changed, clean), mask)


def _region(visible: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(S, S), the largest connected region of visible changes, with gaps of a few pixels filled."""
    closed = visible | ndimage.binary_closing(visible, np.ones((3, 3)), iterations=2)
    regions, number_of_regions = ndimage.label(ndimage.binary_fill_holes(closed), np.ones((3, 3)))
    if not number_of_regions:
        return visible
    return regions == 1 + np.argmax(np.bincount(regions.ravel())[1:])


def _category_style(source: Generator, digest: int) -> CategoryStyle:
    return CategoryStyle(
        texture=TEXTURES[digest % len(TEXTURES)],
        scale=source.uniform(0.03, 0.06),
        contrast=source.uniform(0.12, 0.2),
        colour=source.uniform(100, 170) * (1 + source.uniform(-0.18, 0.18, 3)),
    )


def _part(style: CategoryStyle, source: Generator, lot: Generator, side: int) -> Image:
    """(S, S, 3): the texture under a light that falls off to one side, with camera noise."""
    tone, angle = lot.uniform(0.92, 1.08), lot.uniform(0, 2 * np.pi)
    y, x = np.mgrid[:side, :side] / side - 0.5
    light = 1 + 0.12 * (x * np.cos(angle) + y * np.sin(angle)) - 0.2 * (x**2 + y**2)
    surface = 1 + style.contrast * style.texture(source, side, style.scale)
    grey = tone * source.uniform(0.97, 1.03) * light * surface
    return _levels(grey[..., None] * style.colour + source.normal(0, 1.5, (side, side, 3)))


def _brushed(source: Generator, side: int, scale: float) -> Field:
    """(S, S) brushed metal: long fine grooves, and slow waves across them."""
    fine = _noise(source, side, (0.5, side / 5))
    return 0.7 * fine + 0.3 * _noise(source, side, (side * scale, side / 3))


def _woven(source: Generator, side: int, scale: float) -> Field:
    """(S, S) woven cloth: threads over and under each other, laid a little askew."""
    turn = np.deg2rad(source.uniform(-3, 3))
    y, x = np.mgrid[:side, :side] / (side * scale)
    along = np.cos(turn) * x - np.sin(turn) * y + source.uniform()
    across = np.sin(turn) * x + np.cos(turn) * y + source.uniform()
    over = (np.floor(along) + np.floor(across)) % 2
    thread = np.where(over == 1, np.sin(np.pi * (along % 1)), np.sin(np.pi * (across % 1)))
    return 2 * thread - 1.3 + 0.3 * _noise(source, side, (1, 1))


def _cast(source: Generator, side: int, scale: float) -> Field:
    """(S, S) cast metal: grains of two sizes."""
    return 0.6 * _noise(source, side, (0.8, 0.8)) + 0.4 * _noise(source, side, (side * scale, side * scale))


TEXTURES: tuple[Callable[[Generator, int, float], Field], ...] = (_brushed, _woven, _cast)


def _noise(source: Generator, side: int, widths: tuple[float, float]) -> Field:
    """(S, S) smoothed noise of standard deviation 1; `widths` in pixels down and across."""
    smooth = ndimage.gaussian_filter(source.normal(size=(side, side)), widths, mode="wrap")
    return (smooth - smooth.mean()) / smooth.std()


def _scratch(source: Generator, image: Field, strength: int) -> Field:
    """A bright or dark line, slightly bent."""
    side = len(image)
    y, x = np.mgrid[:side, :side] / side - 0.5
    angle, reach, bend = source.uniform(0, np.pi), source.uniform(0.12, 0.35), source.uniform(-0.6, 0.6)
    along, across = _frame(source, x, y, angle, 0.25)
    width = source.uniform(0.006, 0.012) + 0.5 / side
    line = np.exp(-(((across - bend * along**2) / width) ** 2)) * (np.abs(along) < reach)
    return image + strength * source.choice([-55, 55]) * line[..., None]


def _stain(source: Generator, image: Field, strength: int) -> Field:
    """A ragged spot that absorbs light and tints a little."""
    side = len(image)
    y, x = np.mgrid[:side, :side] / side - 0.5
    along, across = _frame(source, x, y, source.uniform(0, np.pi), 0.3)
    radius = np.hypot(along, across * source.uniform(1, 1.8)) + 0.02 * _noise(source, side, (side / 40, side / 40))
    spot = expit((source.uniform(0.06, 0.13) - radius) / 0.006)
    tint = source.uniform(0.15, 0.4, 3) * strength
    return image * (1 - np.minimum(tint, 0.95) * spot[..., None])


def _hole(source: Generator, image: Field, strength: int) -> Field:
    """A dark ellipse with a bright rim."""
    side = len(image)
    y, x = np.mgrid[:side, :side] / side - 0.5
    along, across = _frame(source, x, y, source.uniform(0, np.pi), 0.35)
    radius = np.hypot(along, across * source.uniform(1, 1.5)) / (strength * source.uniform(0.025, 0.06))
    inside = expit((1 - radius) * 20)
    rim = np.exp(-(((radius - 1.15) / 0.12) ** 2))
    return image * (1 - 0.85 * inside[..., None]) + 45 * rim[..., None]


def _bent(source: Generator, image: Field, strength: int) -> Field:
    """A dent: the texture is pulled to one side, and the slope reflects light differently."""
    side = len(image)
    y, x = np.mgrid[:side, :side] / side - 0.5
    angle = source.uniform(0, 2 * np.pi)
    along, across = _frame(source, x, y, angle, 0.25)
    width = source.uniform(0.07, 0.12)
    bump = np.exp(-(along**2 + across**2) / (2 * width**2))
    pull = strength * 0.05 * side * bump
    rows, columns = np.mgrid[:side, :side]
    places = rows + pull * np.sin(angle), columns + pull * np.cos(angle)
    channels = [ndimage.map_coordinates(image[..., channel], places, order=1, mode="mirror") for channel in range(3)]
    slope = along / width * bump  # within 0.61 of 0
    return np.stack(channels, axis=2) * (1 + 0.35 * slope[..., None])


def _frame(source: Generator, x: Field, y: Field, angle: float, max_offset: float) -> tuple[Field, Field]:
    """Coordinates along and across a direction, from a point at most `max_offset` from the middle (the side is 1)."""
    x, y = x - source.uniform(-max_offset, max_offset), y - source.uniform(-max_offset, max_offset)
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def _levels(image: Field) -> Image:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


DEFECTS: dict[str, Callable[[Generator, Field, int], Field]] = {
    "scratch": _scratch,
    "stain": _stain,
    "hole": _hole,
    "bent": _bent,
}
