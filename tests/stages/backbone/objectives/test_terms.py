"""Each objective's loss against loops, and what follows a step by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stages.backbone.objectives.dino import Dino, Head
from stages.backbone.objectives.distill import Distillation, TeacherPool
from stages.backbone.objectives.mfm import FilteredPool, Mfm, filter_frequencies, low_frequencies
from stages.backbone.objectives.sdssl import Sdssl
from stages.backbone.objectives.selfpatch import Aggregation, Selfpatch, similar_neighbours
from stages.backbone.objectives.views import Views, augment, sample_views, select_views
from tests.reference import objectives as slow
from tests.stages.backbone.conftest import textures
from tests.stages.backbone.objectives.conftest import network_of, tiny


def views(images: int = 3) -> Views:
    generator = torch.Generator().manual_seed(0)

    def random_crops(count: int, side: int) -> Tensor:
        return torch.randint(0, 256, (images, count, 3, side, side), dtype=torch.uint8, generator=generator)

    return Views(random_crops(4, 64), random_crops(3, 32))


def made(kind: type[Any], objective: str, pool: Any, **changes: Any) -> Any:
    torch.manual_seed(0)
    config = tiny("plain", objective, steps=10, **changes)
    return kind(network_of(config), pool, config)


def numbers(tensor: Tensor) -> Any:
    return tensor.detach().double().numpy()


def test_distill_equals_the_mean_over_cells_and_channels() -> None:
    pool = TeacherPool(torch.randint(0, 256, (5, 3, 64, 64)).byte(), torch.randn(5, 7, 2, 2).half())
    task = made(Distillation, "distill", pool, class_weight=2.0)
    masked = torch.zeros(5, 4, 4, dtype=torch.bool)
    losses = task.loss((pool.inputs, pool.deep, masked))
    tokens, class_token = task.encoder(pool.inputs, masked)
    deep, patch, whole = numbers(pool.deep), [], []
    for b in range(5):
        for y in range(2):
            for x in range(2):
                cell = tokens[b, :, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].mean((1, 2))
                wanted = (deep[b, :, y, x] - deep.mean((0, 2, 3))) / deep.std((0, 2, 3))
                patch.append(slow.mean_squared(numbers(task.patch_head(task.patch_norm(cell))), wanted))
        pooled = deep.mean((2, 3))
        wanted = (pooled[b] - pooled.mean(0)) / pooled.std(0)
        whole.append(slow.mean_squared(numbers(task.class_head(task.class_norm(class_token[b]))), wanted))
    assert float(losses["patch"].detach()) == pytest.approx(np.mean(patch), rel=1e-4)
    assert float(losses["loss"].detach()) == pytest.approx(np.mean(patch) + 2 * np.mean(whole), rel=1e-4)


def test_the_head_is_cosines_to_prototypes_of_what_the_views_do_not_share() -> None:
    torch.manual_seed(0)
    head, x = Head(6, 8, 5, 4), torch.randn(3, 6)
    bottleneck = numbers(head.mlp(head.norm(x)))
    bottleneck -= bottleneck.mean(0)
    prototypes = numbers(head.prototypes)
    for i in range(3):
        for k in range(4):
            a, b = bottleneck[i], prototypes[k]
            expected = a @ b / (np.linalg.norm(a) * np.linalg.norm(b))
            assert float(head(x)[i, k].detach()) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("local_views", [0, 2])
def test_dino_equals_loops_over_pairs_of_views(local_views: int) -> None:
    task = made(Dino, "dino", views(), dino={"local_views": local_views, "prototypes": 6})
    task.teacher["head"].prototypes.data.add_(0.3)  # another network than the student
    task.centre.copy_(torch.linspace(-0.1, 0.1, 6))
    full_size, small = select_views(views(), torch.arange(3), local_views, torch.Generator().manual_seed(1))
    losses = task.loss((full_size, small))
    first = torch.cat([full_size[:, 0], full_size[:, 1]])
    student = [task.encode(task.student, first).logits.reshape(2, 3, 6)]
    if local_views:
        student.append(task.encode(task.student, torch.cat([small[:, 0], small[:, 1]])).logits.reshape(2, 3, 6))
    teacher = numbers(task.encode(task.teacher, first).logits.reshape(2, 3, 6))
    expected = slow.between_views(numbers(torch.cat(student)), teacher, numbers(task.centre), 0.1, 0.04)
    assert float(losses["loss"].detach()) == pytest.approx(expected, rel=1e-4)
    answers = np.array([slow.softmax((row - numbers(task.centre)) / 0.04) for row in teacher.reshape(6, 6)])
    entropies = [-sum(p * math.log(p) for p in row if p > 0) for row in answers]
    assert float(losses["doubt"]) == pytest.approx(np.mean(entropies) / math.log(6), abs=1e-4)
    mean = answers.mean(0)
    assert float(losses["usage"]) == pytest.approx(-sum(p * math.log(p) for p in mean) / math.log(6), abs=1e-4)


def test_a_student_pays_log_k_for_even_answers() -> None:
    task = made(Dino, "dino", views())
    assert float(task.cross_view_loss(torch.zeros(4, 2, 64), torch.full((2, 2, 64), 1 / 64))) == pytest.approx(
        math.log(64)
    )


def test_teacher_and_centre_follow_by_hand() -> None:
    task = made(Dino, "dino", views(), dino={"momentum": 0.8, "centre_momentum": 0.9, "prototypes": 6})
    batch = select_views(views(), torch.arange(3), 2, torch.Generator().manual_seed(1))
    old = task.teacher["head"].prototypes.clone()
    task.student["head"].prototypes.data.add_(1.0)
    means = []
    for step, kept in ((0, 0.8), (1, 1 - 0.2 * (1 + math.cos(math.pi / 10)) / 2)):
        task.loss(batch)
        means.append(task.encode(task.teacher, torch.cat([batch[0][:, 0], batch[0][:, 1]])).logits.mean(0))
        assert int(task.done) == step
        task.after_step()
        old = kept * old + (1 - kept) * task.student["head"].prototypes.detach()
        torch.testing.assert_close(task.teacher["head"].prototypes, old, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(task.centre, 0.9 * means[0] + 0.1 * means[1], atol=1e-6, rtol=1e-4)
    before = task.centre.clone()
    task.eval().loss(batch)
    assert torch.equal(task.centre, before)  # validation leaves the centre alone
    task.finish()
    torch.testing.assert_close(task.encoder.state_dict(), task.teacher["encoder"].state_dict(), atol=0, rtol=0)


def test_momentum_ends_at_one_and_the_temperature_rises_evenly() -> None:
    rising = {"first_temperature": 0.04, "teacher_temperature": 0.08, "temperature_warmup": 0.4, "momentum": 0.9}
    task = made(Dino, "dino", views(), dino=rising)
    momenta, temperatures = [], []
    for _ in range(11):
        momenta.append(task.momentum())
        temperatures.append(task.temperature())
        task.done += 1
    assert [momenta[i] for i in (0, 5, 10)] == pytest.approx([0.9, 0.95, 1.0])
    assert temperatures[:6] == pytest.approx([0.04, 0.05, 0.06, 0.07, 0.08, 0.08])


def test_the_optimiser_starts_at_the_objectives_rate() -> None:
    for kind, name, rate in ((Dino, "dino", 5e-4), (Sdssl, "sdssl", 5e-4)):
        optimizer, _ = made(kind, name, views()).optimizer(10)
        assert [group["lr"] for group in optimizer.param_groups] == [rate, rate]  # a warm-up of one step


def test_no_gradient_reaches_the_teacher() -> None:
    for kind, name in ((Dino, "dino"), (Selfpatch, "selfpatch"), (Sdssl, "sdssl")):
        task = made(kind, name, views())
        task.loss(select_views(views(), torch.arange(3), 2, torch.Generator()))["loss"].backward()
        assert all(p.grad is None for p in task.teacher.parameters())
        without = {n for n, p in task.student.named_parameters() if p.grad is None}
        assert without == {"encoder.trunk.mask_token"}, name


def test_the_most_similar_neighbours_are_found_as_by_loops() -> None:
    torch.manual_seed(0)
    tokens = torch.randn(2, 3 * 4, 5)
    around, there = similar_neighbours(tokens, (3, 4), 4)
    expected = slow.most_similar(numbers(tokens.reshape(2, 3, 4, 5)), 4)
    for view in range(2):
        for patch in range(12):
            losses = around[view, patch][there[view, patch]]
            torch.testing.assert_close(losses, tokens[view, expected[view][patch]])
    assert there.sum(-1)[0].tolist() == [3, 4, 4, 3, 4, 4, 4, 4, 3, 4, 4, 3]  # a corner has three


def test_the_aggregation_is_attention_of_one_query() -> None:
    torch.manual_seed(0)
    module = Aggregation(8, tiny("plain", "selfpatch", width=16, heads=2))
    around, start = torch.randn(3, 5, 8), torch.randn(3, 8)
    allowed = torch.ones(3, 5, dtype=torch.bool)
    allowed[1, 3:] = False
    block: Any = module.blocks[0]
    weights = {name: numbers(value) for name, value in block.attention.state_dict().items()}
    for i in range(3):
        query = module.query + start[i]
        keys = numbers(block.norm1(torch.cat([query[None], around[i][allowed[i]]])))
        mixed = slow.attend(keys[0], keys, weights, 2)
        x = query + torch.from_numpy(mixed).float()
        expected = x + block.mlp(block.norm2(x))
        torch.testing.assert_close(module(around, allowed, start)[i], expected, atol=1e-5, rtol=1e-4)


def test_selfpatch_adds_the_patches_loss() -> None:
    task = made(Selfpatch, "selfpatch", views(), selfpatch={"prototypes": 5, "weight": 0.3})
    task.patch_centre.copy_(torch.linspace(-0.1, 0.1, 5))
    batch = select_views(views(), torch.arange(3), 2, torch.Generator().manual_seed(1))
    losses = task.loss(batch)
    first = torch.cat([batch[0][:, 0], batch[0][:, 1]])
    own, teacher = (task.encode(side, first).states[-1][:, 1:] for side in (task.student, task.teacher))  # (6, 16, 32)
    summaries = []
    for view, places in zip(teacher, slow.most_similar(numbers(teacher.reshape(6, 4, 4, 32)), 4), strict=True):
        summaries += [task.teacher["aggregation"](view[chosen][None])[0] for chosen in places]
    wanted = numbers(task.teacher["patch_head"](torch.stack(summaries)))
    student = numbers(task.student["patch_head"](own.reshape(96, 32)))
    centre = numbers(task.patch_centre)
    terms = [
        slow.cross_entropy(slow.softmax((w - centre) / 0.04), s / 0.1) for w, s in zip(wanted, student, strict=True)
    ]
    assert float(losses["patch"].detach()) == pytest.approx(np.mean(terms), rel=1e-4)
    assert float(losses["loss"].detach()) == pytest.approx(
        float(losses["class"].detach()) + 0.3 * np.mean(terms), rel=1e-4
    )
    np.testing.assert_allclose(numbers(task.means["patch_centre"]), wanted.mean(0), atol=1e-5)


def test_sdssl_adds_the_mean_over_intermediate_blocks() -> None:
    task = made(Sdssl, "sdssl", views(), depth=4, sdssl={"ratio": 0.7, "first_block": 2}, dino={"prototypes": 5})
    batch = select_views(views(), torch.arange(3), 2, torch.Generator().manual_seed(1))
    losses = task.loss(batch)
    parts = [torch.cat([views[:, 0], views[:, 1]]) for views in batch]
    states = [task.encode(task.student, part).states for part in parts]
    teacher = numbers(task.encode(task.teacher, parts[0]).logits.reshape(2, 3, 5))
    terms = []
    for head, block in zip(task.block_heads, (1, 2), strict=True):
        student = head(torch.cat([of_part[block][:, 0] for of_part in states])).reshape(4, 3, 5)
        terms.append(slow.between_views(numbers(student), teacher, np.zeros(5), 0.1, 0.04))
    assert float(losses["blocks"].detach()) == pytest.approx(np.mean(terms), rel=1e-4)
    assert float(losses["loss"].detach()) == pytest.approx(
        float(losses["class"].detach()) + 0.7 * np.mean(terms), rel=1e-4
    )


def test_mfm_equals_a_fourier_transform_by_loops() -> None:
    rng = np.random.default_rng(0)
    pool = FilteredPool(torch.zeros(1, 3, 64, 64).byte(), torch.zeros(1, 3, 64, 64).byte(), torch.tensor([True]))
    task = made(Mfm, "mfm", pool)
    task.circle = low_frequencies(8, 0.3)
    image, target = rng.normal(size=(2, 3, 8, 8)), rng.normal(size=(2, 3, 8, 8))
    losses = task.frequency_loss(torch.tensor(image), torch.tensor(target), torch.tensor([True, False]))
    assert float(losses) == pytest.approx(slow.frequency_loss(image, target, [True, False], 0.3 * 8), rel=1e-5)


class ByHeart(nn.Module):
    def __init__(self, patches: Tensor) -> None:
        super().__init__()
        self.patches = patches

    def forward(self, read: Tensor) -> Tensor:
        self.read = read
        return self.patches


def test_mfm_draws_each_patch_where_it_stands_and_asks_for_what_was_masked_alone() -> None:
    crops = torch.randint(60, 200, (1, 3, 64, 64)).byte()
    task = made(Mfm, "mfm", FilteredPool(crops, crops, torch.tensor([True])))
    spectrum = torch.fft.fftshift(torch.fft.fft2((crops.float() - 127) / 64), dim=(-2, -1))
    for low in (True, False):
        masked = task.circle ^ low
        known = torch.fft.ifft2(torch.fft.ifftshift(spectrum * masked, dim=(-2, -1))).real
        patches = nn.functional.unfold(known, 16, stride=16).transpose(1, 2).reshape(1, 4, 4, 768)
        task.decoder = ByHeart(patches)
        assert float(task.loss((crops, crops, torch.tensor([low])))["loss"]) < 1e-4
        assert float(task.loss((crops, crops, torch.tensor([not low])))["loss"]) > 0.1
    tokens, _ = task.encoder(crops)
    torch.testing.assert_close(task.decoder.read[0, 1, 2], task.norm(tokens[0, :, 1, 2]))


def test_a_filter_leaves_low_or_high_frequencies_alone() -> None:
    waves = np.arange(32) * 2 * np.pi / 32
    slow_wave, fast_wave = 20 * np.sin(waves)[:, None], 20 * np.sin(10 * waves)[None]
    crop = torch.tensor(100 + slow_wave + fast_wave)[None, None].expand(1, 3, 32, 32).float()
    low = filter_frequencies(crop, low_frequencies(32, 4 / 32), True)
    np.testing.assert_allclose(low[0, 0].numpy(), np.broadcast_to(100 + slow_wave, (32, 32)), atol=0.6)
    high = filter_frequencies(crop, low_frequencies(32, 4 / 32), False)
    np.testing.assert_allclose(high[0, 0].numpy(), np.broadcast_to(fast_wave.clip(0), (32, 32)), atol=0.6)
    assert int(low_frequencies(32, 1 / 32).sum()) == 1 and bool(low_frequencies(32, 1 / 32)[16, 16])  # the mean alone


def test_views_are_of_one_image_and_two_full_ones_differ() -> None:
    flat = np.stack([np.full((64, 64, 3), 30 * i, np.uint8) for i in range(5)])
    config = tiny("plain", "dino", dino={"jitter": 0.0})
    pool = sample_views(flat, 20, config, lambda crop, _: (crop.byte(),), 0)
    assert pool.full_size.shape == (5, 4, 3, 64, 64) and pool.small.shape == (5, 3, 3, 32, 32)
    tones = pool.full_size.float().mean((2, 3, 4))
    assert sorted(tones[:, 0].tolist()) == [0, 30, 60, 90, 120] and bool((tones == tones[:, :1]).all())
    assert torch.equal(pool.small.float().mean((2, 3, 4))[:, 0], tones[:, 0])
    marked = Views(torch.arange(8).reshape(2, 4), torch.arange(6).reshape(2, 3))
    for seed in range(20):
        full_size, small = select_views(marked, torch.tensor([1, 0]), 2, torch.Generator().manual_seed(seed))
        assert full_size.div(4, rounding_mode="floor").tolist() == [[1, 1], [0, 0]]
        assert bool((full_size[:, 0] != full_size[:, 1]).all() and (small[:, 0] != small[:, 1]).all())


def test_an_altered_crop_stays_a_picture() -> None:
    crop = torch.from_numpy(textures(1, 0)).permute(0, 3, 1, 2).float()
    config = tiny("plain", "dino", dino={"jitter": 0.9, "blur": 0.5}).dino
    crops = [augment(crop, config, np.random.default_rng(seed)) for seed in range(12)]
    assert all(
        bool((altered_crop == altered_crop.round()).all() and altered_crop.min() >= 0 and altered_crop.max() <= 255)
        for altered_crop in crops
    )
    still = tiny("plain", "dino", dino={"jitter": 0.0, "blur": 0.0}).dino
    same = [torch.equal(augment(crop, still, np.random.default_rng(seed)), crop) for seed in range(12)]
    mirrored = [torch.equal(augment(crop, still, np.random.default_rng(seed)), crop.flip(-1)) for seed in range(12)]
    assert any(same) and any(mirrored) and all(a != b for a, b in zip(same, mirrored, strict=True))
