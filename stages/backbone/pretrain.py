"""In-domain distillation: patch tokens predict the teacher's deeper features, the class token their mean.

A masked crop goes in; the targets are the CNN's features of the whole crop at stride 32, standardised. So a masked
token must be filled in from its surroundings, and the class token must look where the content is.

Deviations from masked image modelling (BEiT; MaskDistill, Peng et al., 2022): the loss covers visible and masked cells,
because the visible ones give twice the signal in a hundred steps; the targets are four tokens wide (stride 32 over 16),
so predictions are averaged over a cell.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.backbone.config import BackboneConfig
from stages.backbone.crops import Pool, draw_mask, shuffled_batches
from stages.backbone.lite0 import DEEP_CHANNELS, DEEP_STRIDE
from stages.backbone.vit import Hybrid, Plain
from stages.training import History, Session, Task, fit, warmup_cosine

STEPS_PER_EPOCH = 10
"""A checkpoint and a point of the curves every so many steps."""
WARM_UP = 0.1

Batch = tuple[Tensor, Tensor, Tensor]
"""Inputs (B, ...) as in `Pool`, deep (B, 320, g, g), mask (B, h, w)."""


class Distillation(Task):
    """The trunk (and patch embedding, for `plain`) with two linear heads that are thrown away afterwards."""

    deep_mean: Tensor
    deep_spread: Tensor
    class_mean: Tensor
    class_spread: Tensor

    def __init__(self, network: Hybrid | Plain, teacher: Pool, config: BackboneConfig) -> None:
        """`teacher`: the training pool, for the statistics of the targets."""
        super().__init__()
        self.config = config
        self.trunk = network.trunk
        self.embed = network.embed if isinstance(network, Plain) else network.standardise
        self.scaling = (127.0, 64.0) if isinstance(network, Plain) else (0.0, 1.0)
        channels = network.trunk.class_token.numel()
        self.patch_norm, self.class_norm = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.patch_head, self.class_head = nn.Linear(channels, DEEP_CHANNELS), nn.Linear(channels, DEEP_CHANNELS)
        deep = teacher.deep.float()
        pooled = deep.mean((2, 3))  # (n, 320)
        for name, value, over in (("deep", deep, (0, 2, 3)), ("class", pooled, (0,))):
            self.register_buffer(f"{name}_mean", value.mean(over))
            self.register_buffer(f"{name}_spread", value.std(over, unbiased=False).clamp_min(1e-3))

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Mean squared errors of standardised targets: 1 is what a constant gets."""
        inputs, deep, masked = batch
        patches = self.embed((inputs.float() - self.scaling[0]) / self.scaling[1])
        tokens, class_token, _ = self.trunk(patches, masked)
        deep = deep.float()
        scale = tokens.shape[-1] // deep.shape[-1]
        cells = F.avg_pool2d(tokens, scale).permute(0, 2, 3, 1)  # (B, g, g, C)
        target = (deep.permute(0, 2, 3, 1) - self.deep_mean) / self.deep_spread  # (B, g, g, 320)
        patch = F.mse_loss(self.patch_head(self.patch_norm(cells)), target)
        pooled = (deep.mean((2, 3)) - self.class_mean) / self.class_spread  # (B, 320)
        whole = F.mse_loss(self.class_head(self.class_norm(class_token)), pooled)
        return {"loss": patch + self.config.class_weight * whole, "patch": patch, "class": whole}

    def optimizer(self, steps: int) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        """AdamW, decay on matrices alone; warm-up, then cosine to zero over the configured steps."""
        steps = self.config.steps  # the last epoch may be a short one
        weights = [p for p in self.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in weights if p.ndim == 2], "weight_decay": self.config.weight_decay},
            {"params": [p for p in weights if p.ndim != 2], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.config.lr)
        return optimizer, warmup_cosine(optimizer, steps, max(1, round(WARM_UP * steps)))


def pretrain(
    network: Hybrid | Plain, train: Pool, validation: Pool, config: BackboneConfig, seed: int, session: Session
) -> History:
    """Train `network` in place for `config.steps` steps, keeping the weights of the lowest validation loss."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        task = Distillation(network, train, config)
    epochs = -(-config.steps // STEPS_PER_EPOCH)
    cells = config.crop_side // DEEP_STRIDE
    scale = DEEP_STRIDE // config.patch

    def batch(pool: Pool, index: Tensor, generator: torch.Generator) -> Batch:
        return (
            pool.inputs[index],
            pool.deep[index],
            draw_mask(len(index), cells, config.mask_fraction, scale, generator),
        )

    def training_batches(epoch: int) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        steps = min(STEPS_PER_EPOCH, config.steps - epoch * STEPS_PER_EPOCH)
        for index in shuffled_batches(len(train), config.batch, steps, generator):
            yield batch(train, index, generator)

    def validation_batches() -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(seed)
        for index in torch.arange(len(validation)).split(config.batch):
            yield batch(validation, index, generator)

    return fit(
        task,
        training_batches,
        validation_batches,
        steps_per_epoch=STEPS_PER_EPOCH,
        epochs=epochs,
        patience=None,
        seed=seed,
        session=session,
    )
