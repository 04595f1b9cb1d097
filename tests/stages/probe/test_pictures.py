"""Tokens as colours, and their similarity to the middle patch."""

from __future__ import annotations

import numpy as np
import pytest

from stages.probe.pictures import as_colours, likeness_to_centre


def test_equal_features_have_equal_colours_in_all_pictures():
    rng = np.random.default_rng(0)
    raw, other = rng.standard_normal((4, 5, 7)), rng.standard_normal((4, 5, 7))
    other[1, 2] = raw[3, 4]
    result = as_colours(raw, {"clean": other}, raw - other)
    assert list(result) == ["raw", "clean", "artifact"]
    assert all(picture.shape == (4, 5, 3) and picture.dtype == np.uint8 for picture in result.values())
    assert (result["clean"][1, 2] == result["raw"][3, 4]).all()
    assert (as_colours(raw, {"clean": raw}, 0 * raw)["artifact"] == 128).all()  # no artifact: middle grey


def test_the_greatest_difference_is_red():
    raw = np.zeros((3, 3, 4))
    raw[..., 2] = np.arange(9).reshape(3, 3) - 4.0  # one direction alone varies
    result = as_colours(raw, {"clean": raw}, raw)["raw"].astype(int)
    assert result[..., 0].ravel().tolist() == pytest.approx(np.rint(127.5 + 127.5 * np.arange(-4, 5) / 4), abs=1)
    assert np.ptp(result[..., 1:]) <= 1


def test_one_channel_and_constant_tokens_can_be_drawn():
    assert as_colours(np.ones((2, 2, 1)), {}, np.zeros((2, 2, 1)))["raw"].shape == (2, 2, 3)


def test_likeness_by_hand():
    tokens = np.zeros((3, 3, 2))
    tokens[1, 1] = [2.0, 0.0]
    tokens[0, 0], tokens[0, 1], tokens[2, 2] = [5.0, 0.0], [0.0, 1.0], [-1.0, 0.0]
    result = likeness_to_centre(tokens)
    assert result[0, 0] == result[1, 1] == pytest.approx(1)
    assert result[0, 1] == 0 and result[2, 2] == pytest.approx(-1) and result[1, 0] == 0
