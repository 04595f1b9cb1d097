"""The index tables against loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.detectors.intra import windows as win
from tests.reference import intra_windows as slow


def _images(count: int, side: int, seed: int = 0) -> win.Pixels:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("grid", "window", "expected"),
    [(8, 5, [1, 1, 1, 2, 3, 4, 4, 4]), (5, 4, [1, 1, 1, 2, 2]), (3, 3, [1, 1, 1]), (4, 2, [1, 1, 2, 3])],
)
def test_centred_corners_by_hand(grid: int, window: int, expected: list[int]) -> None:
    first = win.centred(grid, window).positions[:, 0]
    assert (first.reshape(grid, grid)[:, 0] // grid + 1).tolist() == expected
    assert (first.reshape(grid, grid)[0, :] % grid + 1).tolist() == expected


@given(grid=st.integers(2, 12), data=st.data())
@settings(max_examples=40, deadline=None)
def test_centred_windows_equal_the_loop(grid: int, data: st.DataObject) -> None:
    window = data.draw(st.integers(2, grid))
    windows = win.centred(grid, window)
    image = np.zeros((grid, grid, 3), np.uint8)
    for t in range(1, grid + 1):
        for u in range(1, grid + 1):
            place = (t - 1) * grid + u
            r, s = slow.centred_corner(t, grid, window), slow.centred_corner(u, grid, window)
            positions, _ = slow.window_pixels(image, r, s, window, 1)
            assert (windows.positions[place - 1] + 1).tolist() == positions
            assert positions[windows.covered[place - 1]] == place


@given(
    grid=st.integers(2, 6), patch=st.integers(1, 4), seed=st.integers(0, 99), number=st.integers(0, 7), data=st.data()
)
@settings(max_examples=40, deadline=None)
def test_gathered_pixels_equal_the_loop(grid: int, patch: int, seed: int, number: int, data: st.DataObject) -> None:
    window = data.draw(st.integers(2, grid))
    images = _images(3, grid * patch, seed)
    rng = np.random.default_rng(seed)
    chosen, which = win.sample_windows(rng, 5, grid, window), rng.integers(0, 3, 5)
    views = np.array([number, *rng.integers(0, 8, 4)])
    tables = win.pixel_tables(grid * patch, patch)
    pixels = win.gather(*map(torch.from_numpy, (images, which, views, chosen.positions, tables))).numpy()
    for row in range(5):
        image = slow.view(images[which[row]], views[row])
        r, s = divmod(int(chosen.positions[row, 0]), grid)
        positions, patches = slow.window_pixels(image, r + 1, s + 1, window, patch)
        assert (chosen.positions[row] + 1).tolist() == positions
        assert np.array_equal(pixels[row], np.stack(patches).reshape(window * window, -1))


def test_patches_of_an_image_equal_the_loop() -> None:
    image = _images(1, 12)[0]
    _, patches = slow.window_pixels(image, 1, 1, 3, 4)
    assert np.array_equal(win.to_patches(image, 4), np.stack(patches).reshape(9, -1))


def test_windows_and_covered_tokens_are_drawn_uniformly() -> None:
    chosen = win.sample_windows(np.random.default_rng(0), 36_000, grid=4, window=3)
    assert set(chosen.positions[:, 0]) == {0, 1, 4, 5}
    for counts in (np.bincount(chosen.positions[:, 0])[[0, 1, 4, 5]], np.bincount(chosen.covered, minlength=9)):
        mean = 36_000 / len(counts)
        assert np.abs(counts - mean).max() < 5 * np.sqrt(mean)
    joint = np.bincount(chosen.covered[chosen.positions[:, 0] == 5], minlength=9)
    assert joint.min() > 800  # independent: about 1,000 each


@pytest.mark.parametrize(
    ("rotations", "flips", "count"), [(False, False, 1), (True, False, 4), (False, True, 4), (True, True, 8)]
)
def test_which_views_training_may_draw(rotations: bool, flips: bool, count: int) -> None:
    image = _images(1, 4)[0]
    views = [slow.view(image, number).tobytes() for number in win.views_allowed(rotations, flips)]
    assert len(set(views)) == count
    assert views[0] == image.tobytes()
    if rotations:
        assert np.rot90(image).tobytes() in views
    if flips:
        assert np.fliplr(image).tobytes() in views
        assert np.flipud(image).tobytes() in views
    if flips and not rotations:
        assert np.rot90(image).tobytes() not in views
    if rotations and not flips:
        assert np.fliplr(image).tobytes() not in views
