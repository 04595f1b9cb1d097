"""Training: best weights kept, exact resume, early stopping, seeded dropout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from stages.training import History, Session, Task, fit


class Died(Exception):
    pass


class Line(Task):
    def __init__(self, rate: float = 1e-2) -> None:
        super().__init__()
        self.rate = rate
        self.net = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.2), nn.ReLU(), nn.Linear(8, 1))

    def loss(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        return {"loss": (self.net(batch[0]) - batch[1]).square().mean()}

    def optimizer(self, steps: int):
        optimizer = torch.optim.Adam(self.parameters(), self.rate)
        return optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)


def batches(seed: int, count: int = 4) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        x = torch.randn(16, 3, generator=generator)
        yield x, x.sum(1, keepdim=True)


def train(
    folder: Path | None, dies_at: int | None = None, epochs: int = 6, rate: float = 1e-2, seed: int = 1
) -> tuple[Line, History, list[int]]:
    torch.manual_seed(3)
    task, seen = Line(rate), []

    def epoch_batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        if epoch == dies_at:
            raise Died
        yield from batches(epoch)

    session = Session(checkpoint=folder, on_epoch=lambda epoch, values: seen.append(epoch))
    history = fit(
        task,
        epoch_batches,
        lambda: batches(99, 1),
        steps_per_epoch=4,
        epochs=epochs,
        patience=2,
        seed=seed,
        session=session,
    )
    return task, history, seen


def same(first: Line, second: Line) -> bool:
    one, two = first.state_dict(), second.state_dict()
    return all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("dies_at", [0, 1, 4])
def test_a_killed_training_resumes_to_the_same_weights(tmp_path: Path, dies_at: int) -> None:
    whole, history, _ = train(None)
    with pytest.raises(Died):
        train(tmp_path / "run", dies_at)
    resumed, resumed_history, seen = train(tmp_path / "run")
    assert same(whole, resumed)
    assert resumed_history == history
    assert seen == list(range(len(history.epochs)))  # the curve begins at epoch 0 again


def test_a_finished_training_is_not_trained_again(tmp_path: Path) -> None:
    first, history, _ = train(tmp_path)
    again, again_history, _ = train(tmp_path, dies_at=0)  # any training epoch would raise
    assert same(first, again)
    assert again_history == history


def test_a_damaged_checkpoint_starts_over(tmp_path: Path) -> None:
    whole, _, _ = train(None)
    with pytest.raises(Died):
        train(tmp_path, dies_at=3)
    (tmp_path / "last.ckpt").write_bytes((tmp_path / "last.ckpt").read_bytes()[:500])
    assert same(whole, train(tmp_path)[0])


def test_best_weights_come_back_and_training_stops_early() -> None:
    task, history, _ = train(None, epochs=30, rate=3.0)
    values = [epoch["val_loss"] for epoch in history.epochs]
    assert len(values) < 30
    assert history.best_epoch == min(range(len(values)), key=values.__getitem__)
    with torch.no_grad():
        assert float(task.loss(next(batches(99, 1)))["loss"]) == pytest.approx(min(values), rel=1e-6)


def test_the_seed_reaches_dropout() -> None:
    assert not same(train(None, seed=1)[0], train(None, seed=2)[0])


def test_the_last_weights_stay_where_the_best_are_not_asked_for() -> None:
    torch.manual_seed(3)
    task = Line(rate=3.0)
    history = fit(
        task,
        batches,
        lambda: batches(99, 1),
        steps_per_epoch=4,
        epochs=5,
        patience=None,
        seed=1,
        session=Session(),
        keep_best=False,
    )
    values = [epoch["val_loss"] for epoch in history.epochs]
    assert history.best_epoch == 4 and values[4] > min(values)  # else the test would show nothing
    with torch.no_grad():
        assert float(task.loss(next(batches(99, 1)))["loss"]) == pytest.approx(values[4], rel=1e-6)


def test_the_bar_shows_how_many_steps_an_epoch_has(capsys: pytest.CaptureFixture[str]) -> None:
    session = Session(progress=True)
    fit(Line(), batches, None, steps_per_epoch=4, epochs=1, patience=None, seed=1, session=session)
    shown = capsys.readouterr()
    assert "4/4" in shown.out + shown.err
