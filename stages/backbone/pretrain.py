"""Trains the network on the user's images by the configured objective, on a pool of crops that is sampled once.

Deviation from the objectives' papers, which sample new crops at every step: the pool is fixed, so that the frozen CNN
of `hybrid` (and the teacher of `distill`) sees each crop once. The CNN is most of a step's cost on a CPU.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from stages.backbone.config import BackboneConfig
from stages.backbone.networks.crops import shuffled_batches
from stages.backbone.networks.vit import Hybrid, Plain
from stages.backbone.objectives.registry import OBJECTIVES
from stages.training import History, Session, fit
from stages.types import Rows

STEPS_PER_EPOCH = 10
"""Steps between two checkpoints, and between two points of the curves."""
VALIDATION_CROPS = 64


def pretrain(
    network: Hybrid | Plain, images: Rows, validation: Rows, config: BackboneConfig, seed: int, session: Session
) -> History:
    """Train `network` in place for `config.steps` steps.

    Args:
        images, validation: (N, S, S, 3) uint8 RGB, at least one image each; `validation` gives the validation loss,
            which chooses the weights that are kept for `distill` and `mfm`.
    """
    objective = OBJECTIVES[config.objective]
    sample = objective.pool_sampler(network, config)
    training_pool = sample(images, config.crops, seed)
    validation_pool = sample(validation, min(VALIDATION_CROPS, config.crops), seed + 1)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        task = objective(network, training_pool, config)
    items = max(1, config.batch // objective.CROPS_AN_ITEM)

    def training_batches(epoch: int) -> Iterator[tuple[Tensor, ...]]:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        steps = min(STEPS_PER_EPOCH, config.steps - epoch * STEPS_PER_EPOCH)
        for index in shuffled_batches(len(training_pool), items, steps, generator):
            yield task.batch(training_pool, index, generator)

    def validation_batches() -> Iterator[tuple[Tensor, ...]]:
        generator = torch.Generator().manual_seed(seed)
        for index in torch.arange(len(validation_pool)).split(items):
            yield task.batch(validation_pool, index, generator)

    history = fit(
        task,
        training_batches,
        validation_batches,
        steps_per_epoch=STEPS_PER_EPOCH,
        epochs=-(-config.steps // STEPS_PER_EPOCH),
        patience=None,
        seed=seed,
        session=session,
        keep_best=objective.KEEP_BEST,
        mixed_precision=config.mixed_precision,
    )
    task.finish()
    return history
