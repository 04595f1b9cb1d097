"""Tokens as they are restored: components by hand, what is left, and the map of PaDiM where the mean restores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.detectors.shared.token_space import PREFIX, RestFitter, TokenJudge, TokenSpace, read_tokens
from stages.types import UserError
from tests.reference.floors import gaussian_map
from tests.stages.detectors.padim.test_padim import samples


def tokens(count: int, seed: int, channels: int = 5) -> np.ndarray:
    """(count, 3, 4, channels) whose channels follow two causes, at a level of each place."""
    generator = np.random.default_rng(seed)
    causes = generator.normal(size=(count, 3, 4, 2))
    mixed = causes @ np.random.default_rng(0).normal(size=(2, channels)) + generator.normal(
        0, 0.1, (count, 3, 4, channels)
    )
    return (mixed + np.arange(12).reshape(3, 4, 1)).astype(np.float16)


def test_components_are_whitened_deviations_from_the_places_mean() -> None:
    good = tokens(200, 1)
    space = TokenSpace.fit(good, 2)
    assert space.shape == (3, 4, 2)
    np.testing.assert_allclose(space.mean, good.mean(0, dtype=np.float64), atol=1e-3)
    np.testing.assert_allclose(space.spread, (good - space.mean).astype(np.float64).std(axis=(0, 1, 2)), rtol=1e-3)
    reduced = np.stack([space.reduce(image) for image in good]).reshape(-1, 2)
    np.testing.assert_allclose(np.cov(reduced.T), np.eye(2), atol=0.02)
    np.testing.assert_allclose(reduced.mean(0), 0, atol=1e-3)
    assert np.square(space.left(good[0], space.reduce(good[0]))).mean() < 0.05  # two causes explain nearly all


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(0, 5))
def test_with_all_components_nothing_is_left_and_with_zeros_all_is(channels: int, seed: int) -> None:
    good = tokens(30, seed)
    space = TokenSpace.fit(good, channels)
    image = tokens(1, seed + 100)[0]
    standardised = (image.astype(np.float32) - space.mean) / space.spread
    np.testing.assert_allclose(space.left(image, np.zeros(space.shape, np.float32)), standardised, atol=1e-5)
    left = space.left(image, space.reduce(image))
    assert np.square(left).sum() <= np.square(standardised).sum() * (1 + 1e-5)
    if channels >= 5:
        np.testing.assert_allclose(left, 0, atol=1e-3)
        assert space.shape[2] == 5


def test_the_mean_restores_as_padim_judges() -> None:
    good, image = tokens(40, 0), tokens(1, 9)[0]
    arrays = RestFitter(TokenSpace.fit(good, 2)).add(good, np.zeros_like)
    judge = TokenJudge(arrays, smoothing=1.0)
    plane = judge.map(image, np.zeros(judge.space.shape, np.float32))
    standardised = [(values.astype(np.float64) - judge.space.mean) / judge.space.spread for values in (good, image)]
    expected = gaussian_map(*standardised, 0.5, 1e-3, 1.0, True)
    np.testing.assert_allclose(plane, expected, rtol=5e-3)


def test_the_map_counts_where_it_is_told_and_images_add_up() -> None:
    good, image = tokens(40, 0), tokens(1, 9)[0]
    space = TokenSpace.fit(good, 2)
    fitter = RestFitter(space)
    fitter.add(good[:25], lambda reduced: reduced)
    arrays = fitter.add(good[25:], lambda reduced: reduced)
    whole = RestFitter(space).add(good, lambda reduced: reduced)
    for name, value in whole.items():
        np.testing.assert_allclose(arrays[name], value, rtol=1e-3, atol=1e-5, err_msg=name)
    judge, where = TokenJudge(arrays, smoothing=0.0), np.zeros((3, 4), np.bool_)
    where[1, 2] = True
    restored = judge.space.reduce(image)
    plane, everywhere = judge.map(image, restored, where), judge.map(image, restored)
    assert (plane[~where] == 0).all() and plane[1, 2] == everywhere[1, 2] > 0
    assert judge.map(image, restored + 1)[1, 2] > everywhere[1, 2]


def test_identical_images_and_a_constant_channel_do_not_break_it() -> None:
    same = np.full((3, 2, 2, 4), 7, np.float16)
    arrays = RestFitter(TokenSpace.fit(same, 3)).add(same, lambda reduced: reduced)
    assert all(np.isfinite(value).all() for value in arrays.values())
    assert arrays[f"{PREFIX}spread"].tolist() == [1, 1, 1, 1]


def test_the_picture_shows_three_components_about_grey() -> None:
    space = TokenSpace.fit(tokens(30, 0), 2)
    picture = space.picture(np.array([[[0.0, 1.0], [-9.0, 9.0]]], np.float32))
    assert picture.tolist() == [[[128, 170, 128], [0, 255, 128]]]


def test_tokens_are_read_in_half_precision_or_missed_by_name() -> None:
    assert read_tokens(samples(5, 0), "raw").dtype == np.float16
    with pytest.raises(UserError, match="'clean'"):
        read_tokens(samples(5, 0, tokens=False), "clean")
