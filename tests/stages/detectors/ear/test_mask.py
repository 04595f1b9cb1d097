"""Masks: area, growth, rarity, and what keeps an image from finding itself in the memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.detectors.ear import mask as mask_module
from stages.detectors.ear.mask import Memory, RaritySearch, attention_saliency, mask_of, random_blocks
from tests.reference import ear_mask as slow


def test_one_salient_patch_is_covered_and_grown_by_hand() -> None:
    saliency = np.zeros((4, 4), dtype=np.float32)
    saliency[1, 2] = 1.0  # its centre lies between pixels 5 and 6 down, 9 and 10 across (of 16)
    expected = np.zeros((16, 16), dtype=bool)
    expected[3:9, 7:13] = True  # the four pixels around the centre, grown by 2: 6 x 6 = 36 pixels
    np.testing.assert_array_equal(mask_of(saliency, 16, 36 / 256), expected)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), grid=st.integers(2, 6), side=st.integers(12, 24), fraction=st.floats(0.05, 0.9))
def test_threshold_after_growth_is_growth_after_threshold(seed: int, grid: int, side: int, fraction: float) -> None:
    saliency = np.random.default_rng(seed).random((grid, grid)).astype(np.float32)
    mask = mask_of(saliency, side, fraction)
    count = max(1, round(fraction * side * side))
    assert mask.sum() == count
    fewer, more = slow.masks_around(saliency.astype(np.float64), side, count)
    assert not (fewer & ~mask).any()
    assert not (mask & ~more).any()


def test_a_flat_saliency_still_gives_a_mask_of_the_area() -> None:
    assert mask_of(np.zeros((3, 3), dtype=np.float32), 12, 0.25).sum() == 36


def test_attention_is_the_mean_of_the_heads_scaled() -> None:
    attention = np.array([[[0.0, 0.2]], [[0.2, 0.6]]], dtype=np.float16)  # (heads, h, w); means 0.1 and 0.4
    np.testing.assert_allclose(attention_saliency(attention), [[0.0, 1.0]])
    np.testing.assert_array_equal(attention_saliency(np.ones((2, 1, 2), dtype=np.float16)), [[0.0, 0.0]])


def _tokens(seed: int, images: int = 5) -> np.ndarray:
    tokens = np.random.default_rng(seed).normal(size=(images, 3, 4, 6)) * np.arange(1, 7) + 20
    return tokens.astype(np.float16)


@pytest.mark.parametrize("owner", [-1, 2])
@pytest.mark.parametrize("chunk", [7, 10_000])
def test_rarity_is_the_slow_search(monkeypatch: pytest.MonkeyPatch, chunk: int, owner: int) -> None:
    monkeypatch.setattr(mask_module, "CHUNK", chunk)
    tokens = _tokens(0)
    memory = Memory.drawn(tokens, 40, seed=1)
    fast = RaritySearch(memory, neighbours=3).saliency(tokens[2], owner)
    expected = slow.rarity(
        tokens[2].astype(np.float64), memory.features.astype(np.float64), memory.owners, owner, neighbours=3
    )
    np.testing.assert_allclose(fast, expected, atol=2e-3)


def test_a_training_image_does_not_find_itself() -> None:
    tokens = _tokens(0)
    tokens[3, 1, 1] += 40  # a patch like no other
    search = RaritySearch(Memory.drawn(tokens, 10_000, seed=0), neighbours=1)
    assert search.saliency(tokens[3], owner=3)[1, 1] == 1.0  # the rarest
    assert search.saliency(tokens[3], owner=3)[0, 0] < 0.9


def test_the_only_training_image_has_flat_rarity() -> None:
    tokens = _tokens(0, images=1)
    search = RaritySearch(Memory.drawn(tokens, 10_000, seed=0), neighbours=2)
    assert (search.saliency(tokens[0], owner=0) == 0).all()


def test_a_constant_channel_does_not_spoil_the_distance() -> None:
    tokens = _tokens(0)
    tokens[..., 2] = 7
    saliency = RaritySearch(Memory.drawn(tokens, 30, seed=0), neighbours=2).saliency(_tokens(1)[0])
    assert np.isfinite(saliency).all()


def test_memory_is_drawn_from_the_seed_without_repeats_and_knows_its_owners(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = _tokens(0)
    tokens[...] = np.arange(60).reshape(5, 3, 4, 1)  # a patch's features are its number
    memory = Memory.drawn(tokens, 25, seed=3)
    numbers = memory.features[:, 0].astype(int)
    assert len(set(numbers)) == 25
    np.testing.assert_array_equal(memory.owners, numbers // 12)
    monkeypatch.setattr(mask_module, "READ", 2)
    np.testing.assert_array_equal(Memory.drawn(tokens, 25, seed=3).features, memory.features)
    assert not np.array_equal(Memory.drawn(tokens, 25, seed=4).features, memory.features)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), side=st.integers(16, 70), fraction=st.floats(0.01, 0.99))
def test_random_blocks_have_the_area_of_the_masks(seed: int, side: int, fraction: float) -> None:
    mask = random_blocks(side, fraction, np.random.default_rng(seed))
    assert mask.shape == (side, side)
    assert mask.sum() == max(1, round(fraction * side * side))


def test_random_blocks_are_blocks_that_reach_everywhere() -> None:
    masks = np.stack([random_blocks(32, 0.25, np.random.default_rng(i)) for i in range(60)])
    assert masks.any(0).all()
    edges = (masks[:, :, 1:] != masks[:, :, :-1]).mean()
    assert edges < 0.15  # single pixels at random would change at 0.375 of the borders
