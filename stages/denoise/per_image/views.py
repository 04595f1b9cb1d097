"""Views of one image: the whole image and random crops, with the true position of every token.

Legend: V views; S side in pixels of the backbone's input; h, w its patch grid. Coordinates are (row, column) in [0,
1]^2 of the original image, whatever its size.
Source: Yang et al., "Denoising Vision Transformers", ECCV 2024, section 4.1 (crops of area 0.1 to 0.5, flips).
Deviations: a patch's coordinate is the centre of its footprint (the reference code spaces the h x w points from edge to
edge of the crop, half a patch off at its border); crops have real-valued borders, which the resampling honours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stages.denoise.config import DenoiseConfig
from stages.types import UserError

Box = tuple[float, float, float, float]
"""Top, left, height, width, as shares of the image."""


@dataclass(frozen=True)
class Views:
    """Views of one image; view 0 is the whole image, unmirrored."""

    images: NDArray[np.uint8]
    """(V, S, S, 3) RGB."""
    coords: NDArray[np.float64]
    """(V, h, w, 2) patch centres in the original image."""


def patch_centres(grid: tuple[int, int], box: Box = (0.0, 0.0, 1.0, 1.0), flip: bool = False) -> NDArray[np.float64]:
    """(h, w, 2) coordinates of the patch centres of a view that shows `box`, mirrored left to right or not."""
    height, width = grid
    rows = box[0] + box[2] * (np.arange(height) + 0.5) / height
    columns = box[1] + box[3] * (np.arange(width) + 0.5) / width
    if flip:
        columns = columns[::-1]
    return np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1)


def make_views(
    image: NDArray[np.uint8], side: int, grid: tuple[int, int], config: DenoiseConfig, seed: int, name: str = "image"
) -> Views:
    """The whole image (H0, W0, 3) and `config.views` - 1 random crops of it, at `side` pixels.

    The crops depend only on `seed`, the image's own seed, and on the crop parameters; with fewer views the first of
    these crops remain.

    Raises:
        UserError: the image has fewer pixels than patches along a side.
    """
    if min(image.shape[0] / grid[0], image.shape[1] / grid[1]) < 1:
        raise UserError(
            f"{name}: {image.shape[1]} x {image.shape[0]} pixels are fewer than the backbone's "
            f"{grid[1]} x {grid[0]} patches; leave it out or use a larger image"
        )
    random_numbers = np.random.default_rng(seed).random((config.views - 1, 5))
    shape = image.shape[1] / image.shape[0]
    places = [((0.0, 0.0, 1.0, 1.0), False)]
    places += [(_box(numbers, shape, config), bool(numbers[4] < config.flip_probability)) for numbers in random_numbers]
    picture = Image.fromarray(image)
    return Views(
        images=np.stack([_view(picture, side, box, flip) for box, flip in places]),
        coords=np.stack([patch_centres(grid, box, flip) for box, flip in places]),
    )


def _box(numbers: NDArray[np.float64], shape: float, config: DenoiseConfig) -> Box:
    """A crop from five random numbers in [0, 1); `shape` is the image's width / height.

    The aspect is clipped to what fits into the image at the given area, instead of sampling again until it fits.
    """
    area = config.crop_area[0] + numbers[0] * (config.crop_area[1] - config.crop_area[0])
    low, high = np.log(config.crop_aspect)
    aspect = float(np.clip(np.exp(low + numbers[1] * (high - low)), area * shape, shape / area))
    height, width = min(1.0, (area * shape / aspect) ** 0.5), min(1.0, (area * aspect / shape) ** 0.5)
    return numbers[2] * (1 - height), numbers[3] * (1 - width), height, width


def _view(picture: Image.Image, side: int, box: Box, flip: bool) -> NDArray[np.uint8]:
    """(S, S, 3): the box of the picture, bicubic with antialiasing."""
    top, left, height, width = box
    pixels = (
        left * picture.width,
        top * picture.height,
        min(picture.width, (left + width) * picture.width),  # rounding may lead a hair over the border
        min(picture.height, (top + height) * picture.height),
    )
    view = np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC, box=pixels))
    return np.ascontiguousarray(view[:, ::-1]) if flip else view
