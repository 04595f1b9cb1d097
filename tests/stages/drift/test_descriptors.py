"""Values worked by hand, and batches against all at once."""

from __future__ import annotations

import numpy as np
import pytest

from stages.drift import descriptors as d
from stages.types import UserError


def test_grey_is_that_of_pillow() -> None:
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (1, 9, 9, 3), dtype=np.uint8)
    pillow = np.asarray(Image.fromarray(pixels[0]).convert("L"), np.float64)
    assert np.abs(d.grey_values(pixels)[0] * 255 - pillow).max() <= 0.51  # it rounds


def test_brightness_of_black_white_and_half() -> None:
    images = np.zeros((3, 4, 4, 3), np.uint8)
    images[1] = 255
    images[2, :2] = 255
    assert d.brightness(d.grey_values(images)) == pytest.approx([0, 1, 0.5])


def test_sharpness_by_hand() -> None:
    grey = np.zeros((3, 4, 4))
    grey[0] = np.arange(4)[:, None] / 3  # a ramp: its Laplacian is 0
    grey[1, 1, 1] = 1  # Laplacian of the four inner pixels: -4, 1, 1, 0; mean -0.5
    grey[2, 1, 1] = 0.5
    by_hand = (3.5**2 + 1.5**2 + 1.5**2 + 0.5**2) / 4
    assert d.sharpness(grey) == pytest.approx([0, by_hand, by_hand / 4])


def test_a_blurred_picture_is_less_sharp() -> None:
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng(0).random((1, 32, 32))
    assert d.sharpness(gaussian_filter(noise, (0, 1, 1)))[0] < 0.1 * d.sharpness(noise)[0]


def test_described_in_batches_as_all_at_once() -> None:
    generator = np.random.default_rng(0)
    n = 2 * d.BATCH + 3
    images = generator.integers(0, 256, (n, 6, 6, 3), dtype=np.uint8)
    maps = generator.normal(size=(n, 2, 3, 5)).astype(np.float16)
    result = d.describe(images, maps)
    assert result.features == pytest.approx(maps.astype(np.float64).reshape(n, 6, 5).mean(1), abs=1e-6)
    assert result.brightness == pytest.approx(d.brightness(d.grey_values(images)))
    assert result.sharpness == pytest.approx(d.sharpness(d.grey_values(images)))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UserError, match="3 images, but features of 2"):
        d.describe(np.zeros((3, 4, 4, 3), np.uint8), np.zeros((2, 1, 1, 5)))
    with pytest.raises(UserError, match="image 1 is not finite"):
        d.Descriptors(np.array([[1.0], [np.nan]], np.float32), np.zeros(2), np.zeros(2))
    with pytest.raises(UserError, match="2x1 features, 2 brightnesses and 3 sharpnesses"):
        d.Descriptors(np.zeros((2, 1), np.float32), np.zeros(2), np.zeros(3))
