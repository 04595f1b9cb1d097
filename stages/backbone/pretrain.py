"""In-domain training of the network by the objective that is asked for, on a pool of crops that is drawn once.

Deviation from the objectives' papers, which draw crops anew at every step: the pool is fixed, so that the frozen CNN of
`hybrid` (and the teacher of `distill`) sees each crop once; that is most of a step's cost on a CPU.
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
"""A checkpoint and a point of the curves every so many steps."""
VALIDATION_CROPS = 64


def pretrain(
    network: Hybrid | Plain, images: Rows, validation: Rows, config: BackboneConfig, seed: int, session: Session
) -> History:
    """Train `network` in place for `config.steps` steps.

    Args:
        images, validation: (N, S, S, 3) uint8 RGB, at least one of each; the second show the validation loss, which
            chooses the weights that are kept for `distill` and `mfm`.
    """
    kind = OBJECTIVES[config.objective]
    draw = kind.drawing(network, config)
    train = draw(images, config.crops, seed)
    held_out = draw(validation, min(VALIDATION_CROPS, config.crops), seed + 1)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        task = kind(network, train, config)
    items = max(1, config.batch // kind.CROPS_AN_ITEM)

    def training_batches(epoch: int) -> Iterator[tuple[Tensor, ...]]:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        steps = min(STEPS_PER_EPOCH, config.steps - epoch * STEPS_PER_EPOCH)
        for index in shuffled_batches(len(train), items, steps, generator):
            yield task.batch(train, index, generator)

    def validation_batches() -> Iterator[tuple[Tensor, ...]]:
        generator = torch.Generator().manual_seed(seed)
        for index in torch.arange(len(held_out)).split(items):
            yield task.batch(held_out, index, generator)

    history = fit(
        task,
        training_batches,
        validation_batches,
        steps_per_epoch=STEPS_PER_EPOCH,
        epochs=-(-config.steps // STEPS_PER_EPOCH),
        patience=None,
        seed=seed,
        session=session,
        keep_best=kind.KEEP_BEST,
        mixed_precision=config.mixed_precision,
    )
    task.finish()
    return history
