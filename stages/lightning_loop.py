"""The loop of `training.fit`, on Lightning: callbacks, checkpoints, curves."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import stages.torch_setup  # noqa: F401  (before lightning)

import lightning.pytorch as pl  # isort: skip
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint, TQDMProgressBar
from torch import Tensor

from stages.training import Batch, Session, Task


def run(
    task: Task,
    train: Callable[[int], Iterable[Batch]],
    validation: Callable[[], Iterable[Batch]] | None,
    steps_per_epoch: int,
    epochs: int,
    patience: int | None,
    seed: int,
    session: Session,
    keep_best: bool,
    mixed_precision: bool,
) -> Record:
    """Train `task` in place; it ends with its last weights. Arguments as of `training.fit`."""
    module = _Module(task, train, validation, steps_per_epoch * epochs, seed)
    record = Record(session.on_epoch, watch_loss=keep_best and validation is not None, patience=patience)
    callbacks: list[Callback] = [record]
    if validation is not None and patience is not None:
        callbacks.append(EarlyStopping("val_loss", patience=patience, check_on_train_epoch_end=False))
    if session.progress:
        callbacks.append(_ProgressBar(steps_per_epoch))
    with tempfile.TemporaryDirectory() as scratch, torch.random.fork_rng(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        trainer = _trainer(scratch, callbacks, epochs, session, mixed_precision)
        try:
            trainer.fit(module, ckpt_path=_usable_checkpoint(session.checkpoint), weights_only=True)
        except SystemExit as exit_after_interrupt:
            raise KeyboardInterrupt from exit_after_interrupt
        if trainer.interrupted:
            raise KeyboardInterrupt
    return record


def _trainer(scratch: str, callbacks: list[Callback], epochs: int, session: Session, mixed: bool) -> pl.Trainer:
    """A trainer without output except for the progress bar; with a checkpoint folder, it saves the last whole epoch
    there."""
    if session.checkpoint is not None:
        checkpoint_writer = ModelCheckpoint(
            session.checkpoint, "last", save_on_train_epoch_end=True, enable_version_counter=False
        )
        callbacks = [*callbacks, checkpoint_writer]
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


class _ProgressBar(TQDMProgressBar):
    """Shows how many steps an epoch has, which the stream of batches does not tell.

    Lightning's default, rich, prints nothing without a terminal.
    """

    def __init__(self, steps: int) -> None:
        super().__init__(refresh_rate=5)
        self._steps = steps

    @property
    def total_train_batches(self) -> int:
        return self._steps


def _usable_checkpoint(folder: Path | None) -> str | None:
    """The checkpoint to resume from; None if there is none or it is damaged."""
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

        return _BatchLoader(epoch)

    def val_dataloader(self) -> Any:
        return [] if self._validation is None else _BatchLoader(self._validation)

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

    def _log(self, values: dict[str, Tensor], prefix: str, batch: Batch) -> Tensor:
        size = len(batch[0] if isinstance(batch, tuple | list) else batch)
        for name, value in values.items():
            self.log(
                f"{prefix}_{name}",
                value.detach(),
                on_step=False,
                on_epoch=True,
                batch_size=size,
                prog_bar=name == "loss",
            )
        return values["loss"]


class _BatchLoader(torch.utils.data.DataLoader):
    """Ready-made batches from a function that is called anew for each pass."""

    def __init__(self, make: Callable[[], Iterable[Batch]]) -> None:
        super().__init__(_Batches(make), batch_size=None)


class _Batches(torch.utils.data.IterableDataset):
    def __init__(self, make: Callable[[], Iterable[Batch]]) -> None:
        self._make = make

    def __iter__(self) -> Any:
        return iter(self._make())


class Record(Callback):
    """Records the curves and the best weights, in the checkpoint too."""

    def __init__(
        self, on_epoch: Callable[[int, Mapping[str, float]], None], watch_loss: bool, patience: int | None
    ) -> None:
        self._on_epoch, self._watch_loss, self._patience = on_epoch, watch_loss, patience
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
        if self._watch_loss and values["val_loss"] <= min(past["val_loss"] for past in self.history):
            self.best_epoch = len(self.history) - 1
            self.best = {name: value.detach().cpu().clone() for name, value in module.task.state_dict().items()}  # type: ignore[union-attr]
        elif not self._watch_loss:
            self.best_epoch = len(self.history) - 1
        self._on_epoch(len(self.history) - 1, values)

    def state_dict(self) -> dict[str, Any]:
        return {"history": self.history, "best": self.best, "best_epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.history = state_dict["history"]
        self.best = state_dict["best"]
        self.best_epoch = state_dict["best_epoch"]
