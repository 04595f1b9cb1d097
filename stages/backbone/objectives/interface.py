"""The base of all pretraining objectives: a task for `stages.training.fit`, with the pool of crops that it reads.

Legend, here and in the objectives: B crops per step; s crop side; h, w the student's grid; N = h * w; C its channels.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from stages.backbone.config import BackboneConfig
from stages.backbone.networks.crops import CropToTensors
from stages.backbone.networks.vit import Hybrid, Plain
from stages.training import Task, warmup_cosine
from stages.types import Rows

WARM_UP = 0.1

PoolSampler = Callable[[Rows, int, int], Any]
"""(images, crops, seed) -> the objective's pool."""


class Encoder(nn.Module):
    """The part of a network that is trained: the trunk, and for `plain` the patch embedding.

    Its input is what pools hold: the frozen CNN's stack (B, C, h, w) for `hybrid`, pixels (B, 3, s, s) for `plain`.
    """

    def __init__(self, network: Hybrid | Plain) -> None:
        super().__init__()
        self.trunk = network.trunk
        self.embed = network.embed if isinstance(network, Plain) else network.standardise
        self.scaling = (127.0, 64.0) if isinstance(network, Plain) else (0.0, 1.0)

    def patches(self, inputs: Tensor) -> Tensor:
        """Inputs -> (B, C, h, w), before position embedding and blocks."""
        patches: Tensor = self.embed((inputs.float() - self.scaling[0]) / self.scaling[1])
        return patches

    def forward(self, inputs: Tensor, masked: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Inputs -> tokens (B, C, h, w), class token (B, C). `masked` (B, h, w) is True where the mask token replaces
        the patch."""
        tokens, class_token, _ = self.trunk(self.patches(inputs), masked)
        return tokens, class_token

    def states(self, inputs: Tensor) -> list[Tensor]:
        """Inputs -> (B, 1 + N, C) after each block, the class token first."""
        return [x for x, _ in self.trunk.states(self.patches(inputs))]


class Objective(Task):
    """Trains the encoder with heads that are discarded afterwards. Subclass it, and name the class in registry.py."""

    CROPS_AN_ITEM: ClassVar[int] = 1
    """Full-size crops that one item of the pool contributes to a step."""
    KEEP_BEST: ClassVar[bool] = True
    """Keep the weights of the lowest validation loss; False: keep the last, where losses cannot be compared over
    epochs."""

    def __init__(self, network: Hybrid | Plain, pool: Any, config: BackboneConfig) -> None:
        """`pool`: the training pool, for statistics and shapes. Heads are initialised from torch's default
        generator."""
        super().__init__()
        self.config = config
        self.encoder = Encoder(network)
        self.channels = network.trunk.class_token.numel()

    @classmethod
    @abstractmethod
    def pool_sampler(cls, network: Hybrid | Plain, config: BackboneConfig) -> PoolSampler:
        """The function that samples pools; frozen teachers are loaded here, once."""

    @abstractmethod
    def batch(self, pool: Any, index: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        """The argument of `loss` for the pool's items `index`."""

    def finish(self) -> None:
        """Called after training, before the network is read."""

    def optimizer(self, steps: int) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        """AdamW, with weight decay on matrices alone; warm-up, then a cosine to zero over the configured steps."""
        steps = self.config.steps  # the last epoch may be a short one
        weights = [p for p in self.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in weights if p.ndim == 2], "weight_decay": self.config.weight_decay},
            {"params": [p for p in weights if p.ndim != 2], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.config.rate)
        return optimizer, warmup_cosine(optimizer, steps, max(1, round(WARM_UP * steps)))


def student_input(network: Hybrid | Plain) -> CropToTensors:
    """What a pool stores of a crop for the encoder: uint8 pixels (plain) or the CNN's stack in float16 (hybrid)."""

    def to_tensors(crop: Tensor, _: np.random.Generator) -> tuple[Tensor, ...]:
        if isinstance(network, Plain):
            return (crop.to(torch.uint8),)
        return (network.cnn(crop)[0].half(),)

    return to_tensors
