"""Views of images: several crops of each image, full-size and small, sampled and augmented once (multi-crop).

Source: Caron et al., "Emerging properties in self-supervised vision transformers" (DINO), ICCV 2021, section 3.1, and
the authors' code; multi-crop: Caron et al., SwAV, NeurIPS 2020. Deviations:
- Views are sampled once (see `pretrain`); a step takes two full-size and some small views of an image, at random.
- No hue, saturation, greyscale or solarisation: images of inspection are often grey, and their tones carry meaning.

Legend: n images; G full-size and L small crops of each; b images per step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from stages.backbone.config import BackboneConfig
from stages.backbone.networks.crops import CropToTensors, image_order, sample_crop
from stages.backbone.objectives.config import DinoConfig
from stages.torch_setup import one_thread
from stages.types import Rows

BLUR = (0.1, 2.0)
"""Range of the standard deviation of a blur in pixels, sampled uniformly (the authors')."""


@dataclass(frozen=True)
class Views:
    """The encoder's inputs for each image's crops."""

    full_size: Tensor
    """(n, G, ...): full-size crops."""
    small: Tensor
    """(n, L, ...): small crops; L may be 0."""

    def __len__(self) -> int:
        return len(self.full_size)


def sample_views(images: Rows, crops: int, config: BackboneConfig, to_tensors: CropToTensors, seed: int) -> Views:
    """Views of `crops` / G images, at least one, each image in turn."""
    views, rng = config.dino, np.random.default_rng(seed)
    full_size = (views.global_views, config.crop_side, (config.crop_scale, 1.0))
    small = (views.local_pool if views.local_views else 0, views.local_side, (views.local_scale, config.crop_scale))
    pools: tuple[list[Tensor], list[Tensor]] = ([], [])
    with torch.no_grad(), one_thread():
        for index in image_order(max(1, crops // views.global_views), len(images), rng):
            image = images[int(index)]
            for pool, (count, side, area) in zip(pools, (full_size, small), strict=True):
                crops_of_image = [
                    to_tensors(augment(sample_crop(image, side, area, rng), views, rng), rng)[0] for _ in range(count)
                ]
                pool.append(torch.cat(crops_of_image) if crops_of_image else torch.empty(0))
    return Views(torch.stack(pools[0]), torch.stack(pools[1]))


def augment(crop: Tensor, config: DinoConfig, rng: np.random.Generator) -> Tensor:
    """(1, 3, s, s) whole numbers in [0, 255]: mirrored with probability one half, brightness, contrast, blur."""
    pixels = crop.flip(-1) if rng.random() < 0.5 else crop
    brightness, contrast = rng.uniform(1 - config.jitter, 1 + config.jitter, 2)
    pixels = brightness * pixels
    pixels = contrast * (pixels - pixels.mean()) + pixels.mean()
    if rng.random() < config.blur:
        width = rng.uniform(*BLUR)
        pixels = torch.from_numpy(gaussian_filter(pixels.numpy(), (0, 0, width, width)))
    return pixels.clamp(0, 255).round()


def select_views(pool: Views, index: Tensor, small: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A random choice for the images `index` (b,): two full-size views (b, 2, ...) and `small` small views (b, small,
    ...)."""

    def pick(views: Tensor, count: int) -> Tensor:
        order = torch.rand((len(index), views.shape[1]), generator=generator).argsort(dim=1)[:, :count]
        return views[index[:, None], order]

    return pick(pool.full_size, 2), pick(pool.small, small)
