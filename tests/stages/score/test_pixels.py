from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.score import pixels
from tests.reference import score_metrics as reference


def counted(maps: list[np.ndarray], masks: list[np.ndarray | None]) -> pixels.PixelCounts:
    counts = pixels.PixelCounts.empty(len(maps[0]))
    for anomaly_map, mask in zip(maps, masks, strict=True):
        counts.add(anomaly_map, mask)
    return counts


def blobs(seed: int, count: int, side: int, levels: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    generator = np.random.default_rng(seed)
    masks = [generator.random((side, side)) < 0.2 for _ in range(count)]
    masks[0][0, 0], masks[0][1, 1] = True, False
    maps = [(generator.integers(-levels, levels, (side, side)) + mask).astype(np.float32) for mask in masks]
    return maps, masks


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 999), st.integers(1, 3), st.integers(1, 20), st.sampled_from([0.05, 0.3, 1.0]))
def test_equals_the_slow_reference(seed: int, count: int, levels: int, max_fpr: float) -> None:
    maps, masks = blobs(seed, count, 8, levels)
    counts = counted(maps, list(masks))
    flat, truth = np.concatenate([m.ravel() for m in maps]), np.concatenate([m.ravel() for m in masks])
    assert counts.auroc() == pytest.approx(reference.auroc(flat, truth))
    assert counts.aupro(max_fpr) == pytest.approx(reference.aupro(maps, masks, max_fpr))


def test_continuous_maps_lose_nothing_that_shows() -> None:
    generator = np.random.default_rng(0)
    masks = [generator.random((16, 16)) < 0.1 for _ in range(4)]
    maps = [(generator.lognormal(size=(16, 16)) + 0.5 * mask).astype(np.float32) for mask in masks]
    counts = counted(maps, list(masks))
    truth = np.concatenate([m.ravel() for m in masks])
    assert counts.auroc() == pytest.approx(reference.auroc(np.concatenate([m.ravel() for m in maps]), truth), abs=2e-4)
    assert counts.aupro(0.3) == pytest.approx(reference.aupro(maps, masks, 0.3), abs=1e-3)


def test_regions_weigh_the_same_by_hand() -> None:
    """A found region of one pixel and a missed one of four: overlap 1/2 from FPR 0 on, then 1 at the end."""
    mask = np.zeros((8, 8), bool)
    mask[0, 0] = mask[4:6, 4:6] = True
    anomaly_map = np.zeros((8, 8), np.float32)
    anomaly_map[0, 0] = 2
    anomaly_map[4:6, 4:6] = -1
    counts = counted([anomaly_map], [mask])
    assert counts.regions == 2
    assert counts.aupro(0.3) == pytest.approx(0.5)
    assert counts.auroc() == pytest.approx(1 / 5)


def test_regions_are_8_connected() -> None:
    mask = np.eye(8, dtype=bool)
    assert counted([np.zeros((8, 8), np.float32)], [mask]).regions == 1


def test_regions_are_those_of_the_mask_before_it_is_resized() -> None:
    """Two regions 2 px apart at 64 px share a row of cells at 8 px. One is found, the other is not."""
    mask = np.zeros((64, 64), bool)
    mask[8:24, 3:11] = True
    mask[8:24, 13:21] = True
    anomaly_map = np.zeros((8, 8), np.float32)
    anomaly_map[1:3, 0] = 2  # 5 of the 8 columns of the left region, none of the right
    counts = pixels.PixelCounts.empty(8)
    counts.add(anomaly_map, mask)
    assert counts.regions == 2
    weights, _ = pixels.region_weights(mask, 8)
    assert weights.sum() == pytest.approx(2)
    assert counts.overlap[pixels.bins_of(np.array([2.0], np.float32))[0]] == pytest.approx(5 / 8)


@given(st.integers(0, 999), st.integers(3, 20), st.integers(3, 20), st.integers(1, 12))
def test_region_weights_against_loops(seed: int, height: int, width: int, side: int) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < 0.3
    mask[0, 0] = True
    weights, count = pixels.region_weights(mask, side)
    up, left = max(1, -(-side // height)), max(1, -(-side // width))
    large = np.kron(mask, np.ones((up, left))).astype(bool)
    expected = np.zeros((side, side))
    regions = reference.regions(large)
    for region in regions:
        for row, column in region:
            expected[row * side // large.shape[0], column * side // large.shape[1]] += 1 / len(region)
    assert count == len(regions)
    assert np.allclose(weights, expected)


def test_constant_map_is_chance() -> None:
    counts = counted([np.ones((8, 8), np.float32)], [np.eye(8, dtype=bool)])
    assert counts.auroc() == pytest.approx(0.5)
    assert counts.aupro(0.3) == pytest.approx(0.15)  # the diagonal: half of 0.3


def test_undefined_without_masks() -> None:
    counts = counted([np.ones((8, 8), np.float32)], [None])
    assert counts.auroc() is None
    assert counts.aupro(0.3) is None


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=2, max_size=20))
def test_bins_follow_the_order_and_tell_float16_apart(values: list[float]) -> None:
    ordered = np.sort(np.array(values, np.float32))
    assert (np.diff(pixels.bins_of(ordered)) >= 0).all()
    with np.errstate(over="ignore"):
        small = np.unique(ordered.astype(np.float16) + np.float16(0))
    assert (np.diff(pixels.bins_of(small.astype(np.float32))) > 0).all()


def test_zero_of_either_sign_is_one_value() -> None:
    assert len(set(pixels.bins_of(np.array([0.0, -0.0], np.float32)).tolist())) == 1


def test_masks_shrink_to_at_least_half_but_keep_thin_scratches() -> None:
    mask = np.zeros((64, 64), bool)
    mask[:34, :32] = True  # whole cells of 8 px, and a row of a quarter of a cell
    mask[:, 60] = True  # a scratch of 1 px: an eighth of its cell
    small = pixels.resize_mask(mask, 8)
    assert small[:4, :4].all()
    assert not small[4:, :4].any()
    assert small[:, 7].all()
    assert not small[:, 4:7].any()


def test_maps_and_masks_of_any_size_meet_at_the_common_side() -> None:
    mask = np.zeros((90, 60), bool)
    mask[:45, :30] = True
    small = np.zeros((8, 8), np.float32)
    small[:4, :4] = 1
    counts = pixels.PixelCounts.empty(32)
    counts.add(small, mask)
    assert counts.bad.sum() == 16 * 16
    assert counts.auroc() == pytest.approx(1, abs=0.01)


def test_coverage_by_hand() -> None:
    truth = np.zeros((4, 4), bool)
    truth[0] = True
    saliency = np.arange(16, 0, -1, dtype=float).reshape(4, 4)  # most salient first
    assert pixels.mask_coverage([saliency], [truth], 0.25) == 1
    assert pixels.mask_coverage([saliency], [truth], 0.125) == pytest.approx(0.5)
    assert pixels.mask_coverage([-saliency], [truth], 0.25) == 0
    assert pixels.mask_coverage([saliency[:2, :2]], [truth], 0.25) == pytest.approx(0.5)  # nearest pixel
    # a binary mask of half the area: its pixels tie, so half of each counts
    assert pixels.mask_coverage([(saliency > 8).astype(float)], [truth], 0.25) == pytest.approx(0.5)
    assert pixels.mask_coverage([np.ones((4, 4))], [truth], 0.3) == pytest.approx(0.3)
    assert pixels.mask_coverage([saliency], [~truth & truth], 0.3) is None
