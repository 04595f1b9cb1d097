"""Views of images: several crops of each, full-sized and small, drawn and altered once (multi-crop).

Source: Caron et al., "Emerging properties in self-supervised vision transformers" (DINO), ICCV 2021, section 3.1, and
the authors' code; multi-crop: Caron et al., SwAV, NeurIPS 2020. Deviations:
- views are drawn once (see `pretrain`); a step takes two full-sized ones and some small ones of an image, at random;
- no hue, saturation, greyscale or solarisation: images of inspection are often grey, and their tones carry meaning.

Legend: n images; G full-sized and L small crops of each; b images a step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from stages.backbone.config import BackboneConfig
from stages.backbone.networks.crops import Seen, draw_crop, turns
from stages.backbone.objectives.config import DinoConfig
from stages.torch_setup import one_thread
from stages.types import Rows

BLUR = (0.1, 2.0)
"""Standard deviation of a blur in pixels, drawn evenly (the authors')."""


@dataclass(frozen=True)
class Views:
    """What the encoder reads of each image's crops."""

    wide: Tensor
    """(n, G, ...): full-sized crops."""
    narrow: Tensor
    """(n, L, ...): small ones; L may be 0."""

    def __len__(self) -> int:
        return len(self.wide)


def draw_views(images: Rows, crops: int, config: BackboneConfig, seen: Seen, seed: int) -> Views:
    """Views of `crops` / G images, at least one, each image in turn."""
    views, rng = config.dino, np.random.default_rng(seed)
    wide = (views.global_views, config.crop_side, (config.crop_scale, 1.0))
    narrow = (views.local_pool if views.local_views else 0, views.local_side, (views.local_scale, config.crop_scale))
    kept: tuple[list[Tensor], list[Tensor]] = ([], [])
    with torch.no_grad(), one_thread():
        for index in turns(max(1, crops // views.global_views), len(images), rng):
            image = images[int(index)]
            for place, (count, side, area) in zip(kept, (wide, narrow), strict=True):
                found = [seen(altered(draw_crop(image, side, area, rng), views, rng), rng)[0] for _ in range(count)]
                place.append(torch.cat(found) if found else torch.empty(0))
    return Views(torch.stack(kept[0]), torch.stack(kept[1]))


def altered(crop: Tensor, config: DinoConfig, rng: np.random.Generator) -> Tensor:
    """(1, 3, s, s) in [0, 255], whole numbers: mirrored by half a chance, brightness, contrast, blur."""
    pixels = crop.flip(-1) if rng.random() < 0.5 else crop
    brightness, contrast = rng.uniform(1 - config.jitter, 1 + config.jitter, 2)
    pixels = brightness * pixels
    pixels = contrast * (pixels - pixels.mean()) + pixels.mean()
    if rng.random() < config.blur:
        width = rng.uniform(*BLUR)
        pixels = torch.from_numpy(gaussian_filter(pixels.numpy(), (0, 0, width, width)))
    return pixels.clamp(0, 255).round()


def take_views(pool: Views, index: Tensor, small: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Of the images `index` (b,), drawn anew: two full-sized views (b, 2, ...) and `small` ones (b, small, ...)."""

    def some(store: Tensor, count: int) -> Tensor:
        order = torch.rand((len(index), store.shape[1]), generator=generator).argsort(dim=1)[:, :count]
        return store[index[:, None], order]

    return some(pool.wide, 2), some(pool.narrow, small)
