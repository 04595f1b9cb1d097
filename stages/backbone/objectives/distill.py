"""`distill`: patch tokens predict the teacher's deeper features, and the class token predicts their mean.

The input is a masked crop; the targets are a frozen CNN's standardised features of the whole crop at stride 32. So a
masked token must be filled in from its surroundings, and the class token must attend to where the content is.

Deviations from masked image modelling (BEiT; MaskDistill, Peng et al., 2022): the loss covers visible and masked cells,
because visible cells give twice the signal in a hundred steps; a target is several tokens wide (stride 32), so
predictions are averaged over a cell.

Legend, in addition to interface.py's: g = s / 32 the teacher's grid; D its channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.backbone.config import BackboneConfig
from stages.backbone.networks.crops import CropToTensors, sample_crops, sample_mask
from stages.backbone.networks.lite0 import imagenet
from stages.backbone.networks.vit import Hybrid, Plain
from stages.backbone.objectives.interface import Objective, PoolSampler, student_input
from stages.backbone.objectives.teachers import DEEP_STRIDE, teacher_for
from stages.types import Rows

Batch = tuple[Tensor, Tensor, Tensor]
"""Inputs (B, ...) as in `TeacherPool`, deep (B, D, g, g), mask (B, h, w)."""


@dataclass(frozen=True)
class TeacherPool:
    """Crops with the teacher's features."""

    inputs: Tensor
    """(n, C, h, w) float16 or (n, 3, s, s) uint8: see `Encoder`."""
    deep: Tensor
    """(n, D, g, g) float16, the teacher's features at stride 32."""

    def __len__(self) -> int:
        return len(self.inputs)


class Distillation(Objective):
    """Two linear heads on the encoder: one for the cells, one for the class token."""

    deep_mean: Tensor
    deep_spread: Tensor
    class_mean: Tensor
    class_spread: Tensor

    def __init__(self, network: Hybrid | Plain, pool: TeacherPool, config: BackboneConfig) -> None:
        super().__init__(network, pool, config)
        wanted = pool.deep.shape[1]
        self.patch_norm, self.class_norm = nn.LayerNorm(self.channels), nn.LayerNorm(self.channels)
        self.patch_head, self.class_head = nn.Linear(self.channels, wanted), nn.Linear(self.channels, wanted)
        deep = pool.deep.float()
        pooled = deep.mean((2, 3))  # (n, D)
        for name, value, over in (("deep", deep, (0, 2, 3)), ("class", pooled, (0,))):
            self.register_buffer(f"{name}_mean", value.mean(over))
            self.register_buffer(f"{name}_spread", value.std(over, unbiased=False).clamp_min(1e-3))

    @classmethod
    def pool_sampler(cls, network: Hybrid | Plain, config: BackboneConfig) -> PoolSampler:
        to_tensors = _to_tensors(network, config)

        def sample(images: Rows, count: int, seed: int) -> TeacherPool:
            return TeacherPool(*sample_crops(images, count, config.crop_side, config.crop_scale, to_tensors, seed))

        return sample

    def batch(self, pool: TeacherPool, index: Tensor, generator: torch.Generator) -> Batch:
        cells, scale = self.config.crop_side // DEEP_STRIDE, DEEP_STRIDE // self.config.patch
        masked = sample_mask(len(index), cells, self.config.mask_fraction, scale, generator)
        return pool.inputs[index], pool.deep[index], masked

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Mean squared errors of standardised targets: 1 is the loss of a constant."""
        inputs, deep, masked = batch
        tokens, class_token = self.encoder(inputs, masked)
        deep = deep.float()
        scale = tokens.shape[-1] // deep.shape[-1]
        cells = F.avg_pool2d(tokens, scale).permute(0, 2, 3, 1)  # (B, g, g, C)
        target = (deep.permute(0, 2, 3, 1) - self.deep_mean) / self.deep_spread  # (B, g, g, D)
        patch = F.mse_loss(self.patch_head(self.patch_norm(cells)).float(), target)
        pooled = (deep.mean((2, 3)) - self.class_mean) / self.class_spread  # (B, D)
        whole = F.mse_loss(self.class_head(self.class_norm(class_token)).float(), pooled)
        return {"loss": patch + self.config.class_weight * whole, "patch": patch, "class": whole}


def _to_tensors(network: Hybrid | Plain, config: BackboneConfig) -> CropToTensors:
    """The student's input and the teacher's features; for `hybrid` with teacher `lite0` one network gives both."""
    if config.teacher == "lite0" and isinstance(network, Hybrid):
        both = imagenet(config.patch, deep=True)
        return lambda crop, _: tuple(features.half() for features in both(crop))
    student_tensors, teacher = student_input(network), teacher_for(config)

    def to_tensors(crop: Tensor, rng: np.random.Generator) -> tuple[Tensor, ...]:
        return *student_tensors(crop, rng), teacher(crop).half()

    return to_tensors
