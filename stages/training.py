"""Trains every network of the project: Lightning, seeded per epoch, resumable at the end of an epoch, best weights
kept.

All randomness of an epoch derives from (seed, epoch). A training that was killed and resumed gives the same weights as
an uninterrupted one.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

Batch = Any
"""The argument of `Task.loss`: a tensor, or a tuple of tensors."""


def _ignore_epoch(epoch: int, values: Mapping[str, float]) -> None:
    pass


@dataclass(frozen=True)
class Session:
    """Where a training keeps its checkpoint and reports its curves, and on which device it runs."""

    checkpoint: Path | None = None
    """Folder of this training alone; a checkpoint in it is resumed. None: no checkpoint."""
    on_epoch: Callable[[int, Mapping[str, float]], None] = _ignore_epoch
    """Called with (epoch, curves) after each epoch; after a resume first for the past epochs."""
    device: str = "cpu"
    """`cpu` or `cuda`."""
    progress: bool = False
    """Show a progress bar."""


class Task(nn.Module, ABC):
    """A network with its loss and its optimiser. Subclass this; keep the network in attributes."""

    @abstractmethod
    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Scalars by name; `loss` is minimised, the other scalars are only recorded. Also used on validation
        batches."""

    @abstractmethod
    def optimizer(self, steps: int) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler | None]:
        """The optimiser, and a schedule that is stepped after every batch; `steps` is the number of batches planned in
        total."""

    def after_step(self) -> None:
        """Called after every optimiser step, for example to update a momentum teacher."""


def warmup_cosine(
    optimizer: torch.optim.Optimizer, steps: int, warmup: int, minimum: float = 0.0
) -> torch.optim.lr_scheduler.LRScheduler:
    """Schedule that multiplies the peak rate by a factor: up over `warmup` steps (0: none), then along a cosine to
    `minimum` at `steps`."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        progress = min(1.0, (step - warmup) / max(1, steps - warmup))
        return minimum + (1 - minimum) * (1 + math.cos(math.pi * progress)) / 2

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


@dataclass(frozen=True)
class History:
    """The curves, with one entry per epoch, and the epoch whose weights were kept."""

    epochs: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0


def fit(
    task: Task,
    train: Callable[[int], Iterable[Batch]],
    validation: Callable[[], Iterable[Batch]] | None,
    *,
    steps_per_epoch: int,
    epochs: int,
    patience: int | None,
    seed: int,
    session: Session,
    keep_best: bool = True,
    mixed_precision: bool = False,
) -> History:
    """Train `task` in place; it ends with its best weights (lowest validation loss), in eval mode, on the CPU.

    Args:
        train: epoch -> its batches, `steps_per_epoch` of them; a pure function of the epoch.
        validation: -> the same batches every time; None keeps the last weights.
        patience: stop after this many epochs without a lower validation loss; None trains all epochs.
        seed: seeds torch's default generator (for dropout) anew in each epoch.
        keep_best: False keeps the last weights, for losses that cannot be compared over epochs.
        mixed_precision: half precision with a scaled loss on a GPU; a CPU always computes in single precision.

    Raises:
        KeyboardInterrupt: on Ctrl-C; the last whole epoch stays in the checkpoint.
    """
    from stages import lightning_loop  # takes seconds to import, and judging trains nothing

    record = lightning_loop.run(
        task, train, validation, steps_per_epoch, epochs, patience, seed, session, keep_best, mixed_precision
    )
    if record.best is not None:
        task.load_state_dict(record.best)
    task.cpu().eval()
    return History(epochs=record.history, best_epoch=record.best_epoch)
