"""Views: true patch centres, mirrored views, and crops within the image."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.denoise.config import DenoiseConfig
from stages.denoise.per_image.views import make_views, patch_centres
from stages.types import UserError
from tests.stages.denoise.synthetic import picture


def extent(coords):
    """Height and width of the view's footprint, from its patch centres."""
    h, w = coords.shape[:2]
    return (coords[-1, 0, 0] - coords[0, 0, 0]) * h / (h - 1), (coords[0, -1, 1] - coords[0, 0, 1]) * w / (w - 1)


def test_patch_centres_by_hand():
    assert np.allclose(patch_centres((2, 2))[:, 0, 0], [0.25, 0.75])
    box = patch_centres((1, 2), (0.2, 0.4, 0.5, 0.4))
    assert np.allclose(box, [[[0.45, 0.5], [0.45, 0.7]]])
    assert np.allclose(patch_centres((1, 2), (0.2, 0.4, 0.5, 0.4), flip=True), box[:, ::-1])


def test_view_zero_is_the_image_itself():
    image = picture(32)
    views = make_views(image, 32, (4, 4), DenoiseConfig(views=4), 0)
    assert (views.images[0] == image).all()
    assert np.allclose(views.coords[0], patch_centres((4, 4)))
    assert views.images.shape == (4, 32, 32, 3) and views.coords.shape == (4, 4, 4, 2)


def test_pixels_are_where_the_coordinates_say():
    """On a ramp of red by row and green by column a patch's mean colour is its coordinate, mirrored views included."""
    y, x = np.meshgrid(np.arange(128), np.arange(96), indexing="ij")
    ramp = np.stack([y * 255 / 128, x * 255 / 96, 0 * x], axis=-1).round().astype(np.uint8)
    views = make_views(ramp, 64, (8, 8), DenoiseConfig(views=20), 3)
    colours = views.images.reshape(20, 8, 8, 8, 8, 3).astype(float).mean((2, 4))[..., :2] / 255
    inner = np.abs(colours - views.coords)[:, 1:-1, 1:-1]
    assert inner.max() < 0.01
    assert (views.coords[:, 0, 0, 1] > views.coords[:, 0, -1, 1]).any()


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(8, 60),
    width=st.integers(8, 60),
    low=st.floats(0.05, 1.0),
    share=st.floats(0, 1),
    aspects=st.tuples(st.floats(0.2, 4), st.floats(0.2, 4)),
)
def test_crops_lie_within_the_image_and_the_configured_ranges(height, width, low, share, aspects):
    area = (low, low + share * (1 - low))
    config = DenoiseConfig(views=6, crop_area=area, crop_aspect=(min(aspects), max(aspects)))
    views = make_views(np.zeros((height, width, 3), np.uint8), 8, (4, 4), config, 1)
    for coords in views.coords[1:]:
        tall, wide = extent(coords)
        assert coords.min() > 0 and coords.max() < 1
        assert area[0] - 1e-9 <= tall * abs(wide) <= area[1] + 1e-9
        aspect, shape = abs(wide) * width / (tall * height), width / height
        fits = tall < 1 - 1e-9 and abs(wide) < 1 - 1e-9
        assert not fits or min(aspects) - 1e-9 <= aspect <= max(aspects) + 1e-9, (aspect, shape)


def test_flip_probability_counts():
    image = np.zeros((16, 16, 3), np.uint8)
    for probability, low, high in ((0.0, 0, 0), (1.0, 199, 199), (0.5, 80, 120)):
        config = DenoiseConfig(views=200, flip_probability=probability)
        coords = make_views(image, 8, (2, 2), config, 0).coords
        assert low <= (coords[:, 0, 0, 1] > coords[:, 0, -1, 1]).sum() <= high


def test_views_depend_on_the_seed_and_more_views_keep_the_first():
    image = picture(32)

    def coords(seed, views=6):
        return make_views(image, 16, (4, 4), DenoiseConfig(views=views), seed).coords

    assert (coords(0) == coords(0)).all() and (coords(0)[1:] != coords(1)[1:]).any()
    assert (coords(0, 9)[:6] == coords(0)).all()


def test_an_image_smaller_than_its_patches_is_refused_with_both_values():
    with pytest.raises(UserError, match=r"image 7: 9 x 3 pixels are fewer than the backbone's 4 x 4 patches"):
        make_views(np.zeros((3, 9, 3), np.uint8), 16, (4, 4), DenoiseConfig(), 0, "image 7")
