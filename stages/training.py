"""One way to train every network here: Lightning, seeded by epoch, resumable at epoch ends, best weights kept.

All randomness of an epoch derives from (seed, epoch), so a run that was killed and resumed gives the same weights as
one that was not.
"""

from __future__ import annotations

import logging
import math
import tempfile
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import stages.torch_setup  # noqa: F401  (before lightning)

import lightning.pytorch as pl  # isort: skip
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint, TQDMProgressBar
from torch import Tensor, nn

Batch = Any
"""What `Task.loss` takes: a tensor, or a tuple of tensors."""


def _nothing(epoch: int, values: Mapping[str, float]) -> None:
    pass


@dataclass(frozen=True)
class Session:
    """Where a training keeps its checkpoint, where it shows its curves, and on what it runs."""

    checkpoint: Path | None = None
    """Folder of this training alone; a checkpoint found there is resumed. None: no resume."""
    on_epoch: Callable[[int, Mapping[str, float]], None] = _nothing
    """Called with (epoch, curves); after a resume with the past epochs first."""
    device: str = "cpu"
    """`cpu` or `cuda`."""
    progress: bool = False
    """Show a progress bar."""


class Task(nn.Module, ABC):
    """What is trained: a network, its loss and its optimiser. Subclass this; keep the network in attributes."""

    @abstractmethod
    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Scalars by name; `loss` is minimised, the others are shown. Also used on validation batches."""

    @abstractmethod
    def optimizer(self, steps: int) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler | None]:
        """The optimiser and a schedule stepped after every batch; `steps` is the whole number of batches planned."""

    def after_step(self) -> None:
        """Hook after every optimiser step (for a momentum teacher, say)."""


def warmup_cosine(
    optimizer: torch.optim.Optimizer, steps: int, rising: int, floor: float = 0.0
) -> torch.optim.lr_scheduler.LRScheduler:
    """The peak rate times a factor: up over `rising` steps (0: none), then along a cosine to `floor` at `steps`."""

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        through = min(1.0, (step - rising) / max(1, steps - rising))
        return floor + (1 - floor) * (1 + math.cos(math.pi * through)) / 2

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


@dataclass(frozen=True)
class History:
    """What happened: one entry an epoch, and which epoch's weights were kept."""

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
        patience: stop after that many epochs without a lower validation loss; None trains all epochs.
        seed: seeds whatever still draws from torch's default generator (dropout), anew each epoch.
        keep_best: False keeps the last weights, for losses that do not compare over epochs.
        mixed_precision: half precision, loss scaled, on a GPU; a CPU computes in single precision in any case.

    Raises:
        KeyboardInterrupt: as pressed; the last whole epoch stays in the checkpoint.
    """
    module = _Module(task, train, validation, steps_per_epoch * epochs, seed)
    keeper = _Keeper(session.on_epoch, watched=keep_best and validation is not None, patience=patience)
    callbacks: list[Callback] = [keeper]
    if validation is not None and patience is not None:
        callbacks.append(EarlyStopping("val_loss", patience=patience, check_on_train_epoch_end=False))
    if session.progress:
        callbacks.append(_Bar(steps_per_epoch))
    with tempfile.TemporaryDirectory() as scratch, torch.random.fork_rng(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        trainer = _trainer(scratch, callbacks, epochs, session, mixed_precision)
        try:
            trainer.fit(module, ckpt_path=_readable(session.checkpoint), weights_only=True)
        except SystemExit as exit_after_interrupt:
            raise KeyboardInterrupt from exit_after_interrupt
        if trainer.interrupted:
            raise KeyboardInterrupt
    if keeper.best is not None:
        task.load_state_dict(keeper.best)
    task.cpu().eval()
    return History(epochs=keeper.history, best_epoch=keeper.best_epoch)


def _trainer(scratch: str, callbacks: list[Callback], epochs: int, session: Session, mixed: bool) -> pl.Trainer:
    """Silent but for the progress bar; with a checkpoint, it keeps the last whole epoch there."""
    if session.checkpoint is not None:
        keeping = ModelCheckpoint(
            session.checkpoint, "last", save_on_train_epoch_end=True, enable_version_counter=False
        )
        callbacks = [*callbacks, keeping]
    return pl.Trainer(
        default_root_dir=scratch,
        accelerator="gpu" if session.device.startswith("cuda") else "cpu",
        precision=_precision(session.device, mixed),
        devices=1,
        max_epochs=epochs,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=session.checkpoint is not None,
        enable_model_summary=False,
        enable_progress_bar=session.progress,
        num_sanity_val_steps=0,
        reload_dataloaders_every_n_epochs=1,
        deterministic="warn",
    )


def _precision(device: str, mixed: bool) -> Literal["16-mixed", "32-true"]:
    return "16-mixed" if mixed and device.startswith("cuda") else "32-true"


class _Bar(TQDMProgressBar):
    """Shows how many steps an epoch has, which the stream of batches does not say.

    Lightning's default, rich, is silent where there is no terminal.
    """

    def __init__(self, steps: int) -> None:
        super().__init__(refresh_rate=5)
        self._steps = steps

    @property
    def total_train_batches(self) -> int:
        return self._steps


def _readable(folder: Path | None) -> str | None:
    """The checkpoint to resume from, unless there is none or it is damaged."""
    path = None if folder is None else folder / "last.ckpt"
    if path is None or not path.is_file():
        return None
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # whatever a damaged file raises: start over, the result is the same
        path.unlink()
        return None
    return str(path)


class _Module(pl.LightningModule):
    def __init__(
        self,
        task: Task,
        train: Callable[[int], Iterable[Batch]],
        validation: Callable[[], Iterable[Batch]] | None,
        steps: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.task = task
        self._train, self._validation, self._steps, self._seed = train, validation, steps, seed

    def train_dataloader(self) -> Any:
        def epoch() -> Iterable[Batch]:
            # not in on_train_epoch_start: Lightning skips that hook for the first epoch after a resume
            torch.manual_seed(self._seed * 1_000_003 + self.current_epoch)
            return self._train(self.current_epoch)

        return _Stream(epoch)

    def val_dataloader(self) -> Any:
        return [] if self._validation is None else _Stream(self._validation)

    def configure_optimizers(self) -> Any:
        optimizer, schedule = self.task.optimizer(self._steps)
        if schedule is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def training_step(self, batch: Batch, index: int) -> Tensor:
        return self._log(self.task.loss(batch), "train", batch)

    def validation_step(self, batch: Batch, index: int) -> Tensor:
        return self._log(self.task.loss(batch), "val", batch)

    def on_train_batch_end(self, *_: Any) -> None:
        self.task.after_step()

    def _log(self, values: dict[str, Tensor], stage: str, batch: Batch) -> Tensor:
        size = len(batch[0] if isinstance(batch, tuple | list) else batch)
        for name, value in values.items():
            self.log(
                f"{stage}_{name}",
                value.detach(),
                on_step=False,
                on_epoch=True,
                batch_size=size,
                prog_bar=name == "loss",
            )
        return values["loss"]


class _Stream(torch.utils.data.DataLoader):
    """Batches that come ready-made from a function, made anew at each pass."""

    def __init__(self, make: Callable[[], Iterable[Batch]]) -> None:
        super().__init__(_Batches(make), batch_size=None)


class _Batches(torch.utils.data.IterableDataset):
    def __init__(self, make: Callable[[], Iterable[Batch]]) -> None:
        self._make = make

    def __iter__(self) -> Any:
        return iter(self._make())


class _Keeper(Callback):
    """Keeps the curves and the best weights, in the checkpoint too."""

    def __init__(
        self, on_epoch: Callable[[int, Mapping[str, float]], None], watched: bool, patience: int | None
    ) -> None:
        self._on_epoch, self._watched, self._patience = on_epoch, watched, patience
        self.history: list[dict[str, float]] = []
        self.best: dict[str, Tensor] | None = None
        self.best_epoch = 0

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        for epoch, values in enumerate(self.history):
            self._on_epoch(epoch, values)
        if self._patience is not None and len(self.history) - 1 - self.best_epoch >= self._patience:
            trainer.should_stop = True  # it was killed after its last epoch

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        values = {name: float(value) for name, value in sorted(trainer.callback_metrics.items())}
        self.history.append(values)
        if self._watched and values["val_loss"] <= min(past["val_loss"] for past in self.history):
            self.best_epoch = len(self.history) - 1
            self.best = {name: value.detach().cpu().clone() for name, value in module.task.state_dict().items()}  # type: ignore[union-attr]
        elif not self._watched:
            self.best_epoch = len(self.history) - 1
        self._on_epoch(len(self.history) - 1, values)

    def state_dict(self) -> dict[str, Any]:
        return {"history": self.history, "best": self.best, "best_epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.history = state_dict["history"]
        self.best = state_dict["best"]
        self.best_epoch = state_dict["best_epoch"]
