"""The fixed pool of crops that pretraining reads, with what the frozen teacher says of each.

Legend: n crops; s crop side; g = s / 32 the teacher's grid; h, w the student's grid; C its channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from stages.backbone.lite0 import DEEP_CHANNELS, DEEP_STRIDE, STACK_CHANNELS, Lite0
from stages.torch_setup import one_thread
from stages.types import Rows

STATISTICS_IMAGES = 256
"""At most so many training images give mean and spread of the channels."""


@dataclass(frozen=True)
class Pool:
    """Crops with the teacher's features; float16 keeps a thousand of them within 200 MB."""

    inputs: Tensor
    """What the student reads: (n, C, h, w) float16 stack of the CNN (hybrid) or (n, 3, s, s) uint8 pixels (plain)."""
    deep: Tensor
    """(n, 320, g, g) float16, the teacher's features at stride 32."""

    def __len__(self) -> int:
        return len(self.inputs)


def to_pixels(images: NDArray[np.uint8]) -> Tensor:
    """(B, S, S, 3) uint8 -> (B, 3, S, S) float32 in [0, 255]."""
    return torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float()


def draw_crop(image: NDArray[np.uint8], side: int, smallest: float, rng: np.random.Generator) -> Tensor:
    """A square crop of (S, S, 3) with area uniform in [smallest, 1] of the image's: (1, 3, side, side) in [0, 255]."""
    whole = image.shape[0]
    length = max(1, round(whole * float(np.sqrt(rng.uniform(smallest, 1.0)))))
    top, left = rng.integers(0, whole - length + 1, size=2)
    pixels = to_pixels(image[None, top : top + length, left : left + length])
    return F.interpolate(pixels, (side, side), mode="bilinear", antialias=length > side)


def draw_pool(
    images: Rows,
    count: int,
    side: int,
    smallest: float,
    teacher: Lite0,
    pixels: bool,
    seed: int,
) -> Pool:
    """`count` crops of `images`, each image in turn in a drawn order; `pixels`: keep them as the student's input.

    One crop at a time: on a CPU a batch is slower (caches), and memory stays small.
    """
    rng = np.random.default_rng(seed)
    order = np.concatenate([rng.permutation(len(images)) for _ in range(-(-count // len(images)))])[:count]
    grid, deep_grid = side // teacher.patch, side // DEEP_STRIDE
    shape, kind = ((3, side, side), torch.uint8) if pixels else ((STACK_CHANNELS, grid, grid), torch.float16)
    inputs = torch.empty((count, *shape), dtype=kind)
    deep = torch.empty((count, DEEP_CHANNELS, deep_grid, deep_grid), dtype=torch.float16)
    with torch.inference_mode(), one_thread():
        for i, index in enumerate(order):
            crop = draw_crop(images[int(index)], side, smallest, rng).round()
            stack, features = teacher(crop)
            inputs[i] = crop[0] if pixels else stack[0]
            deep[i] = features[0]
    return Pool(inputs, deep)


def channel_statistics(images: Rows, network: Lite0) -> tuple[Tensor, Tensor]:
    """Mean and spread (176,) of the stack over all positions of at most 256 images, evenly chosen."""
    chosen = np.unique(np.linspace(0, len(images) - 1, min(len(images), STATISTICS_IMAGES)).round().astype(int))
    total = torch.zeros(STACK_CHANNELS, dtype=torch.float64)
    squares = torch.zeros(STACK_CHANNELS, dtype=torch.float64)
    count = 0
    with torch.inference_mode(), one_thread():
        for index in chosen:
            stack = network(to_pixels(images[int(index)][None]))[0][0].double().flatten(1)  # (176, h*w)
            total, squares, count = total + stack.sum(1), squares + stack.square().sum(1), count + stack.shape[1]
    mean = total / count
    variance = (squares / count - mean.square()).clamp_min(0.0)
    # A channel that never varies stays finite; the spread of the others is of the order of one.
    return mean.float(), variance.sqrt().clamp_min(1e-3).float()


def draw_mask(count: int, cells: int, fraction: float, scale: int, generator: torch.Generator) -> Tensor:
    """(count, cells*scale, cells*scale) True at `fraction` of the cells x cells cells, the same number in each row."""
    masked = round(fraction * cells * cells)
    ranks = torch.rand((count, cells * cells), generator=generator).argsort(dim=1).argsort(dim=1)
    coarse = (ranks < masked).reshape(count, cells, cells)
    return coarse.repeat_interleave(scale, dim=1).repeat_interleave(scale, dim=2)


def shuffled_batches(count: int, size: int, steps: int, generator: torch.Generator) -> Iterator[Tensor]:
    """`steps` index batches of `size`, through a new permutation whenever one is used up."""
    left = torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        while len(left) < size:
            left = torch.cat([left, torch.randperm(count, generator=generator)])
        yield left[:size]
        left = left[size:]
