"""Masks: area, growth, rarity, random blocks."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.detectors.ear.mask import attention_saliency, mask_of, random_blocks, rarity
from stages.detectors.shared.nearest import Search, sample_memory
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


def test_rarity_is_the_distance_scaled() -> None:
    tokens = np.random.default_rng(0).normal(size=(4, 3, 5, 6)).astype(np.float16)
    search = Search(sample_memory([tokens], 4, 15, 40, seed=1), neighbours=3)
    distances = search.distances(tokens[2].reshape(15, 6), owner=2)
    expected = (distances - distances.min()) / (distances.max() - distances.min())
    np.testing.assert_array_equal(rarity(tokens[2], search, owner=2), expected.reshape(3, 5))


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
