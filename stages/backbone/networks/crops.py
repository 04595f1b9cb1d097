"""Crops of the training images, sampled once, and a frozen network's output for them, computed once.

Legend: n crops; s crop side; h, w the student's grid; C its channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from stages.torch_setup import one_thread
from stages.types import Rows

STATISTICS_IMAGES = 256
"""Largest number of training images that mean and standard deviation of the channels are computed from."""

CropToTensors = Callable[[Tensor, np.random.Generator], tuple[Tensor, ...]]
"""What is stored of a crop (1, 3, s, s) in [0, 255]: tensors (1, ...) of the stored type."""


class Pool(Protocol):
    """Crops with what an objective needs of them. float16 keeps a thousand stacks of the CNN within 40 MB."""

    def __len__(self) -> int: ...


def to_pixels(images: NDArray[np.uint8]) -> Tensor:
    """(B, S, S, 3) uint8 -> (B, 3, S, S) float32 in [0, 255]."""
    return torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float()


def sample_crop(image: NDArray[np.uint8], side: int, area: tuple[float, float], rng: np.random.Generator) -> Tensor:
    """A square crop of (S, S, 3) whose share of the image's area is uniform within `area`: (1, 3, side, side) in [0,
    255]."""
    whole = image.shape[0]
    length = max(1, round(whole * float(np.sqrt(rng.uniform(*area)))))
    top, left = rng.integers(0, whole - length + 1, size=2)
    pixels = to_pixels(image[None, top : top + length, left : left + length])
    return F.interpolate(pixels, (side, side), mode="bilinear", antialias=length > side)


def image_order(count: int, images: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """(count,) indices of images, each image in turn, in a random order."""
    return np.concatenate([rng.permutation(images) for _ in range(-(-count // images))])[:count]


def sample_crops(
    images: Rows, count: int, side: int, min_area: float, to_tensors: CropToTensors, seed: int
) -> tuple[Tensor, ...]:
    """The tensors (count, ...) of `count` crops, each image in turn.

    Crops are processed one at a time: on a CPU a batch is slower (caches), and memory stays small.
    """
    rng = np.random.default_rng(seed)
    order = image_order(count, len(images), rng)
    stores: list[Tensor] = []
    with torch.no_grad(), one_thread():
        for i, index in enumerate(order):
            tensors = to_tensors(sample_crop(images[int(index)], side, (min_area, 1.0), rng).round(), rng)
            stores = stores or [torch.empty((count, *tensor.shape[1:]), dtype=tensor.dtype) for tensor in tensors]
            for store, tensor in zip(stores, tensors, strict=True):
                store[i] = tensor[0]
    return tuple(stores)


def channel_statistics(images: Rows, stack_of: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (C,) over all positions of at most 256 images, evenly spaced.

    Args:
        stack_of: (1, 3, S, S) pixels in [0, 255] -> (1, C, h, w), not yet standardised.
    """
    chosen = np.unique(np.linspace(0, len(images) - 1, min(len(images), STATISTICS_IMAGES)).round().astype(int))
    total = squares = torch.zeros((), dtype=torch.float64)
    count = 0
    with torch.inference_mode(), one_thread():
        for index in chosen:
            stack = stack_of(to_pixels(images[int(index)][None]))[0].double().flatten(1)  # (C, h*w)
            total, squares, count = total + stack.sum(1), squares + stack.square().sum(1), count + stack.shape[1]
    mean = total / count
    variance = (squares / count - mean.square()).clamp_min(0.0)
    # The minimum keeps a channel that never varies finite; the spread of other channels is of the order of one.
    return mean.float(), variance.sqrt().clamp_min(1e-3).float()


def sample_mask(count: int, cells: int, fraction: float, scale: int, generator: torch.Generator) -> Tensor:
    """(count, cells*scale, cells*scale) True at `fraction` of the cells x cells cells, the same number in each row."""
    masked = round(fraction * cells * cells)
    ranks = torch.rand((count, cells * cells), generator=generator).argsort(dim=1).argsort(dim=1)
    coarse = (ranks < masked).reshape(count, cells, cells)
    return coarse.repeat_interleave(scale, dim=1).repeat_interleave(scale, dim=2)


def shuffled_batches(count: int, size: int, steps: int, generator: torch.Generator) -> Iterator[Tensor]:
    """`steps` index batches of `size`; a new permutation follows whenever one is used up."""
    remaining = torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        while len(remaining) < size:
            remaining = torch.cat([remaining, torch.randperm(count, generator=generator)])
        yield remaining[:size]
        remaining = remaining[size:]
