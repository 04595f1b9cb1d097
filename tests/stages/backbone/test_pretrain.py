"""Crops, masks, statistics, targets and the schedule of in-domain pretraining."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from stages.backbone.networks.crops import (
    channel_statistics,
    sample_crop,
    sample_crops,
    sample_mask,
    shuffled_batches,
    to_pixels,
)
from stages.backbone.networks.lite0 import imagenet
from stages.backbone.networks.vit import Hybrid, Plain
from stages.backbone.objectives.distill import Distillation, TeacherPool
from tests.stages.backbone.conftest import small


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 6), st.floats(0, 0.95), st.sampled_from([1, 2, 4]), st.integers(0, 99))
def test_masks_cover_whole_cells_and_the_same_number_of_them(
    cells: int, fraction: float, scale: int, seed: int
) -> None:
    mask = sample_mask(3, cells, fraction, scale, torch.Generator().manual_seed(seed))
    assert mask.shape == (3, cells * scale, cells * scale)
    blocks = mask.reshape(3, cells, scale, cells, scale).float().mean((2, 4))
    assert set(blocks.unique().tolist()) <= {0.0, 1.0}
    assert blocks.sum((1, 2)).tolist() == [round(fraction * cells * cells)] * 3


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 9), st.integers(1, 7), st.integers(1, 8))
def test_every_crop_comes_once_before_any_comes_twice(count: int, size: int, steps: int) -> None:
    batches = list(shuffled_batches(count, size, steps, torch.Generator().manual_seed(0)))
    assert [len(b) for b in batches] == [size] * steps
    seen = torch.cat(batches)
    for start in range(0, len(seen) - count + 1, count):
        assert sorted(seen[start : start + count].tolist()) == list(range(count))


def test_a_crop_of_the_whole_area_is_the_image(train: NDArray[np.uint8]) -> None:
    crop = sample_crop(train[0], 64, (1.0, 1.0), np.random.default_rng(0))
    assert torch.equal(crop, to_pixels(train[:1]))


def test_small_crops_come_from_inside_the_image() -> None:
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint8)[None, :, None], (64, 64, 3))
    widths = []
    for seed in range(20):
        crop = sample_crop(ramp, 32, (0.25, 1.0), np.random.default_rng(seed))
        assert float(crop.min()) >= 0 and float(crop.max()) <= 63
        widths.append(float(crop.max() - crop.min()))
    assert 25 < min(widths) < 45 and max(widths) > 50


def test_the_pool_takes_each_image_in_turn(train: NDArray[np.uint8]) -> None:
    flat = np.stack([np.full((64, 64, 3), 40 * i, np.uint8) for i in range(5)])
    pixels, tones = sample_crops(flat, 7, 64, 0.5, lambda crop, _: (crop.byte(), crop.mean((1, 2, 3))), 0)
    values = pixels[:, 0, 0, 0].tolist()
    assert sorted(values[:5]) == [0, 40, 80, 120, 160]
    assert tones.tolist() == values and pixels.dtype == torch.uint8 and pixels.shape == (7, 3, 64, 64)


def test_statistics_are_those_of_all_positions(train: NDArray[np.uint8]) -> None:
    network = imagenet(16, deep=False)
    mean, spread = channel_statistics(train, lambda crops: network(crops)[0])
    stack = network(to_pixels(train))[0].numpy()
    np.testing.assert_allclose(mean.numpy(), stack.mean((0, 2, 3)), atol=1e-4)
    np.testing.assert_allclose(spread.numpy(), np.maximum(stack.std((0, 2, 3)), 1e-3), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("model", ["hybrid", "plain"])
def test_predicting_the_mean_costs_one(model: str) -> None:
    torch.manual_seed(0)
    config = small(model=model, class_weight=3.0)
    network = Hybrid(config) if model == "hybrid" else Plain(config)
    inputs = torch.randn(6, 176, 4, 4).half() if model == "hybrid" else torch.randint(0, 256, (6, 3, 64, 64)).byte()
    pool = TeacherPool(inputs, (7 + 2 * torch.randn(6, 320, 2, 2)).half())
    task = Distillation(network, pool, config)
    for head in (task.patch_head, task.class_head):
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
    with torch.no_grad():
        losses = task.loss((pool.inputs, pool.deep, torch.zeros(6, 4, 4, dtype=torch.bool)))
    assert {name: pytest.approx(float(value), abs=1e-4) for name, value in losses.items()} == {
        "loss": 4.0,
        "patch": 1.0,
        "class": 1.0,
    }


def test_the_targets_lie_where_the_tokens_lie() -> None:
    """With the target written into the tokens of its own cell, the loss of that cell alone is nought."""
    torch.manual_seed(0)
    config = small(layer_scale=1e-6)
    network = Hybrid(config)
    torch.nn.init.zeros_(network.trunk.position)
    deep = torch.zeros(4, 320, 2, 2)
    deep[:, 0] = torch.tensor([[1.0, -1.0], [2.0, -2.0]])
    inputs = torch.zeros(4, 176, 4, 4)
    inputs[:, 0] = deep[:, 0].repeat_interleave(2, 1).repeat_interleave(2, 2)
    task = Distillation(network, TeacherPool(inputs, deep), config)
    task.patch_norm = torch.nn.Identity()
    torch.nn.init.zeros_(task.patch_head.weight)
    torch.nn.init.zeros_(task.patch_head.bias)
    with torch.no_grad():
        task.patch_head.weight[0, 0] = float(1 / task.deep_spread[0])
    assert float(task.loss((inputs, deep, torch.zeros(4, 4, 4, dtype=torch.bool)))["patch"]) < 1e-6


def test_the_rate_warms_up_and_falls_to_nought() -> None:
    config = small(steps=20, lr=0.5)
    network = Plain(small(model="plain"))
    pool = TeacherPool(torch.zeros(2, 3, 64, 64).byte(), torch.zeros(2, 320, 2, 2).half())
    optimizer, schedule = Distillation(network, pool, config).optimizer(30)
    rates = []
    for _ in range(21):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[:2] == [0.25, 0.5]
    assert rates[11] == pytest.approx(0.25)  # half of the cosine
    assert rates[20] == pytest.approx(0.0, abs=1e-9)
