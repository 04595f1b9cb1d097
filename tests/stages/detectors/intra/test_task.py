"""The training of InTra: loss, windows of an epoch, learning rate."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stages.detectors.intra import task
from stages.detectors.intra.config import IntraConfig
from stages.detectors.intra.model import build
from tests.reference.similarity import msgms as msgms_map
from tests.reference.similarity import ssim as ssim_map
from tests.stages.detectors.intra.tiny import CANVAS, TINY


def test_the_loss_by_hand_and_against_slow_similarities() -> None:
    rng = np.random.default_rng(0)
    painted, target = rng.random((2, 2, 4, 4, 3))
    config = TINY.model_copy(update={"alpha": 0.3, "beta": 0.2})
    parts = task.painting_loss(
        torch.from_numpy(painted.reshape(2, -1)), torch.from_numpy(target.reshape(2, -1)), config
    )
    planes = [(p.transpose(2, 0, 1), t.transpose(2, 0, 1)) for p, t in zip(painted, target, strict=True)]
    l2 = ((painted - target) ** 2).mean()
    unlike_gms = 1 - np.mean([msgms_map(p, t, scales=1).mean() for p, t in planes])
    unlike_ssim = 1 - np.mean([ssim_map(p, t).mean() for p, t in planes])
    assert float(parts["l2"]) == pytest.approx(l2)
    assert float(parts["gms"]) == pytest.approx(unlike_gms, abs=1e-5)
    assert float(parts["ssim"]) == pytest.approx(unlike_ssim, abs=1e-5)
    assert float(parts["loss"]) == pytest.approx(l2 + 0.3 * unlike_gms + 0.2 * unlike_ssim, abs=1e-5)
    flat = task.painting_loss(torch.full((1, 48), 0.5), torch.full((1, 48), 0.25), config)
    assert float(flat["l2"]) == pytest.approx(0.0625)  # (0.5 - 0.25)^2
    assert float(flat["gms"]) == pytest.approx(0, abs=1e-6)  # no edge in either


def test_an_epoch_is_a_pure_function_and_gives_each_image_its_windows() -> None:
    images = np.arange(6, dtype=np.uint8)[:, None, None, None].repeat(16, 1).repeat(16, 2).repeat(3, 3)
    data = task.TrainingWindows(images, CANVAS, TINY, seed=5)
    first, again, second = (list(data.epoch(e)) for e in (0, 0, 1))
    assert len(first) == data.steps == 3
    assert all(torch.equal(x, y) for a, b in zip(first, again, strict=True) for x, y in zip(a, b, strict=True))
    other = list(task.TrainingWindows(images, CANVAS, TINY, seed=6).epoch(0))

    def shown(epoch: list[task.WindowBatch]) -> list[float]:
        return torch.cat([batch[0][:, 0, 0] for batch in epoch]).tolist()

    # the order and the places differ from step to step, from epoch to epoch and from seed to seed
    assert shown(first) != shown(second) != shown(other) != shown(first)
    places = [batch[1].tolist() for batch in (first[0], first[1], second[0], other[0])]
    assert all(a != b for i, a in enumerate(places) for b in places[:i])
    seen = torch.tensor(shown(first))
    assert torch.bincount(seen.long()).tolist() == [8] * 6
    assert seen.tolist() != sorted(seen.tolist())


def test_the_learning_rate_rises_then_falls() -> None:
    def rates(config: IntraConfig) -> list[float]:
        adam, schedule = task.InpaintingTask(build(config, CANVAS, 0), config).optimizer(10)
        values = []
        for _ in range(10):
            values.append(adam.param_groups[0]["lr"])
            adam.step()
            schedule.step()
        return values

    cosine = rates(TINY.model_copy(update={"lr": 1.0}))
    assert cosine[:3] == pytest.approx([0.5, 1.0, 1.0])
    assert cosine[6] == pytest.approx(0.5)
    assert cosine == sorted(cosine[:2]) + sorted(cosine[2:], reverse=True)
    assert cosine[-1] == pytest.approx(0.5 * (1 + np.cos(np.pi * 7 / 8)))
    constant = rates(TINY.model_copy(update={"lr": 1.0, "schedule": "constant"}))
    assert constant == pytest.approx([0.5] + [1.0] * 9)
