"""Image against restoration in features: by the slow definition, and what each parameter does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from stages.detectors import compare
from stages.detectors.compare import Comparison, as_bytes, enlarged, fit, reduced
from stages.detectors.gaussian import contrast
from stages.detectors.interface import CompareConfig
from stages.types import UserError
from tests.reference.floors import gaussian_map
from tests.stages.detectors.padim.test_padim import extract


class Config(CompareConfig):
    image_side: int = 64


def _config(**changes: Any) -> Config:
    return Config(**{"compare_side": 64, "contrast": 0, **changes})


def _pairs(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    images = generator.normal(120, 30, (count, 64, 64, 3)) + generator.normal(0, 20, (count, 4, 4, 3)).repeat(
        16, 1
    ).repeat(16, 2)
    restorations = 0.7 * images + 40 + generator.normal(0, 5, images.shape)
    return tuple(part.clip(0, 255).astype(np.uint8) for part in (images, restorations))  # type: ignore[return-value]


def _maps(config: Config, test: tuple[np.ndarray, np.ndarray], count: int = 40) -> np.ndarray:
    images, restorations = _pairs(count, 0)
    arrays = fit(lambda rows: (images[rows], restorations[rows]), count, extract, config)
    return np.stack(Comparison(arrays, extract, config).maps(*test))


@pytest.mark.parametrize("side", [0, 3])
def test_the_map_is_the_distance_of_what_the_restoration_does_not_predict(side: int) -> None:
    (train, restored), test = _pairs(40, 0), _pairs(3, 1)
    inputs, outputs = extract(restored).astype(np.float64), extract(train).astype(np.float64)
    x = (inputs - inputs.mean(0)).reshape(-1, 5)
    y = (outputs - outputs.mean(0)).reshape(-1, 5)
    # least squares with rows that stand for the ridge
    ridge = np.sqrt(compare.PREDICTION_RIDGE * (x**2).sum(0).mean() + 1e-9) * np.eye(5)
    prediction = np.linalg.lstsq(np.vstack([x, ridge]), np.vstack([y, np.zeros((5, 5))]), rcond=None)[0]

    def left(images: np.ndarray, restorations: np.ndarray) -> np.ndarray:
        plain = extract(images).astype(np.float64) - extract(restorations).astype(np.float64) @ prediction
        return np.stack([contrast(one, side) for one in plain])

    found = _maps(_config(contrast=side), test)
    for plane, one in zip(found, left(*test), strict=True):
        expected = gaussian_map(left(train, restored), one, compare.SHRINKAGE, compare.RIDGE, compare.SMOOTHING)
        np.testing.assert_allclose(plane, expected, rtol=5e-3)


def test_a_restoration_that_says_something_makes_a_change_stand_out() -> None:
    images, restorations = _pairs(4, 1)
    changed = images.copy()
    changed[:, 20:28, 36:44] //= 2  # in cell (1, 2)
    before, after = (_maps(_config(), (given, restorations)) for given in (images, changed))
    assert (after[:, 1, 2] > 1.5 * before[:, 1, 2]).all()


def test_an_image_gets_the_same_beside_others() -> None:
    images, restorations = _pairs(5, 1)
    whole = _maps(_config(), (images, restorations))
    for i in range(5):
        assert np.array_equal(_maps(_config(), (images[i : i + 1], restorations[i : i + 1]))[0], whole[i])


def test_one_image_and_equal_images_do_not_break_it() -> None:
    assert np.isfinite(_maps(_config(), _pairs(1, 1), count=1)).all()
    flat = np.full((3, 64, 64, 3), 9, np.uint8)
    arrays = fit(lambda rows: (flat[rows], flat[rows]), 3, extract, _config())
    assert np.isfinite(Comparison(arrays, extract, _config()).maps(*_pairs(1, 1))[0]).all()


def test_parameters_and_what_is_missing() -> None:
    test = _pairs(2, 1)
    plain = _maps(_config(), test)
    assert not np.allclose(_maps(_config(contrast=3), test), plain)
    seen: list[int] = []

    images, restorations = _pairs(4, 0)

    def watched(pictures: np.ndarray) -> np.ndarray:
        seen.append(pictures.shape[1])
        return extract(enlarged(pictures, 64))

    fit(lambda rows: (enlarged(images[rows], 128), restorations[rows]), 4, watched, _config(compare_side=128))
    assert set(seen) == {128}
    with pytest.raises(UserError, match="ImageNet CNN"):
        fit(lambda rows: test, 2, None, _config())


def test_contrast_by_hand() -> None:
    features = np.arange(9, dtype=np.float32).reshape(3, 3, 1)
    assert contrast(features, 0) is features
    assert contrast(features, 3)[1, 1, 0] == 0  # 4 less the mean of 0..8
    # the corner: itself 4 times, each neighbour twice, the diagonal once
    assert contrast(features, 3)[0, 0, 0] == pytest.approx(0 - (4 * 0 + 2 * 1 + 2 * 3 + 4) / 9)


def test_sides() -> None:
    assert _config(image_side=32, compare_side=96).input_side == 96
    assert _config(image_side=20, compare="ssim", compare_side=160).input_side == 20
    with pytest.raises(
        ValidationError, match="compare_side 256 is not a multiple of image_side 96: take compare_side 288"
    ):
        _config(image_side=96, compare_side=256)


def test_the_network_sees_means_of_squares_of_pixels() -> None:
    image = np.zeros((1, 4, 4, 3), np.uint8)
    image[0, :2, :2, 0] = [[1, 2], [3, 4]]  # 2.5: up
    image[0, 2:, :2, 0] = [[1, 1], [1, 2]]  # 1.25
    image[0, 2:, 2:, 2] = 255
    small = reduced(image, 2)
    np.testing.assert_array_equal(small[0, ..., 0], [[3, 0], [1, 0]])
    np.testing.assert_array_equal(small[0, ..., 2], [[0, 0], [0, 255]])
    many = np.random.default_rng(0).integers(0, 256, (19, 6, 6, 3), dtype=np.uint8)  # more than one batch
    expected = many.reshape(19, 2, 3, 2, 3, 3).mean((2, 4))
    np.testing.assert_allclose(reduced(many, 2), expected, atol=0.5 + 1e-9)
    np.testing.assert_array_equal(reduced(many, 6), many)


def test_pictures() -> None:
    restoration = torch.tensor([[[0.0, 0.5]], [[1.0, 1.2]], [[-0.1, 0.25]]])  # (3, 1, 2)
    np.testing.assert_array_equal(as_bytes(restoration), [[[0, 255, 0], [128, 255, 64]]])
    row = np.array([0, 100], np.uint8).repeat(6).reshape(1, 1, 2, 6)[..., :3].repeat(2, 1)  # (1, 2, 2, 3)
    np.testing.assert_array_equal(enlarged(row, 4)[0, 0, :, 0], [0, 25, 75, 100])
