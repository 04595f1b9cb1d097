"""`mfm`: the network sees an image without its high or without its low frequencies, and predicts them.

Source: Xie et al., "Masked frequency modeling for self-supervised visual pre-training", ICLR 2023, section 3: masking
eq. 1 to 3, frequency loss eq. 4 (exponent 1, on the masked frequencies alone), linear decoder; details as in the
authors' code. Deviations: mask and crop are sampled once (see `pretrain`), so that the frozen CNN of `hybrid` sees each
once; the circle's radius is relative to the crop's side.

Legend: interface.py's; p = s / h pixels per patch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.backbone.config import BackboneConfig
from stages.backbone.networks.crops import sample_crops
from stages.backbone.networks.vit import Hybrid, Plain
from stages.backbone.objectives.interface import Objective, PoolSampler, student_input
from stages.types import Rows

MEAN, SPREAD = 127.0, 64.0
"""The predicted pixels are normalised to (x - 127) / 64."""
TINY = 1e-12

Batch = tuple[Tensor, Tensor, Tensor]
"""Inputs (B, ...), crops (B, 3, s, s) uint8, low-passed (B,) bool."""


@dataclass(frozen=True)
class FilteredPool:
    """Crops, filtered and as they were."""

    inputs: Tensor
    """(n, ...) of the filtered crop: see `Encoder`."""
    crops: Tensor
    """(n, 3, s, s) uint8."""
    low: Tensor
    """(n,) True where the low frequencies were kept, False where the high frequencies were."""

    def __len__(self) -> int:
        return len(self.inputs)


def low_frequencies(side: int, radius: float) -> Tensor:
    """(s, s) True at frequencies closer to the centre (s // 2, s // 2) than `radius` times the side."""
    offset = torch.arange(side) - side // 2
    return offset[:, None].square() + offset.square() < (radius * side) ** 2


def filter_frequencies(crop: Tensor, circle: Tensor, low: bool) -> Tensor:
    """(1, 3, s, s) in [0, 255] with only the frequencies inside (`low`) or outside the circle (eq. 1 to 3)."""
    spectrum = torch.fft.fftshift(torch.fft.fft2(crop), dim=(-2, -1)) * (circle if low else ~circle)
    return torch.fft.ifft2(torch.fft.ifftshift(spectrum, dim=(-2, -1))).real.clamp(0, 255).round()


class Mfm(Objective):
    """A linear decoder on the patch tokens."""

    circle: Tensor

    def __init__(self, network: Hybrid | Plain, pool: FilteredPool, config: BackboneConfig) -> None:
        super().__init__(network, pool, config)
        self.norm = nn.LayerNorm(self.channels)
        self.decoder = nn.Linear(self.channels, 3 * config.patch**2)
        self.register_buffer("circle", low_frequencies(config.crop_side, config.mfm.radius))

    @classmethod
    def pool_sampler(cls, network: Hybrid | Plain, config: BackboneConfig) -> PoolSampler:
        student_tensors, circle = student_input(network), low_frequencies(config.crop_side, config.mfm.radius)

        def to_tensors(crop: Tensor, rng: np.random.Generator) -> tuple[Tensor, ...]:
            low = bool(rng.random() < config.mfm.low_pass)
            shown = filter_frequencies(crop, circle, low)
            return *student_tensors(shown, rng), crop.to(torch.uint8), torch.tensor([low])

        def sample(images: Rows, count: int, seed: int) -> FilteredPool:
            return FilteredPool(*sample_crops(images, count, config.crop_side, config.crop_scale, to_tensors, seed))

        return sample

    def batch(self, pool: FilteredPool, index: Tensor, generator: torch.Generator) -> Batch:
        return pool.inputs[index], pool.crops[index], pool.low[index]

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """`loss`: mean distance of the predicted masked frequencies to the crop's."""
        inputs, crops, low = batch
        tokens, _ = self.encoder(inputs)
        predicted = self.decoder(self.norm(tokens.permute(0, 2, 3, 1))).float()  # (B, h, w, 3 * p * p)
        image = F.pixel_shuffle(predicted.permute(0, 3, 1, 2), self.config.patch)  # (B, 3, s, s)
        return {"loss": self.frequency_loss(image, (crops.float() - MEAN) / SPREAD, low)}

    def frequency_loss(self, image: Tensor, target: Tensor, low: Tensor) -> Tensor:
        """|F(image) - F(target)| (eq. 4) of (B, 3, s, s), mean over the masked frequencies of crops and channels."""
        gap = torch.fft.fftshift(torch.fft.fft2(image - target, norm="ortho"), dim=(-2, -1))
        distance = (gap.real.square() + gap.imag.square() + TINY).sqrt()  # (B, 3, s, s)
        masked = (self.circle ^ low[:, None, None])[:, None]  # (B, 1, s, s): outside the circle where low is shown
        return (distance * masked).sum() / (3 * masked.sum())
