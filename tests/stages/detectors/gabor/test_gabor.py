from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from stages.detectors.gabor import detector
from stages.detectors.gabor.bank import features, filters
from stages.detectors.gabor.config import GaborConfig
from stages.training import Session
from stages.types import Fitted, Samples, ScoreMap
from tests.reference.floors import gabor_features, gabor_map

SIDE = 32
SMALL = GaborConfig(image_side=SIDE, grid=4, fit_on="train")


def pictures(count: int, seed: int = 0, side: int = SIDE) -> np.ndarray:
    """Stripes of random phase and some noise, RGB with unequal channels."""
    generator = np.random.default_rng(seed)
    phase = generator.uniform(0, 6, count)[:, None, None, None]
    base = 120 + 40 * np.sin(np.arange(side)[None, None, :, None] / 2 + phase)
    return np.clip(base + generator.normal(0, 10, (count, side, side, 3)), 0, 255).astype(np.uint8)


def samples(images: np.ndarray) -> Samples:
    return Samples([str(i) for i in range(len(images))], images)


def fitted(config: GaborConfig = SMALL, train: int = 24) -> Fitted:
    side = config.image_side
    return detector.fit(samples(pictures(train, 0, side)), samples(pictures(6, 9, side)), config, 0, Session())


def scored(images: np.ndarray, config: GaborConfig = SMALL, model: Fitted | None = None) -> list[ScoreMap]:
    return list(detector.score(model or fitted(config), samples(images), config, "cpu"))


def test_features_equal_direct_convolutions() -> None:
    for image in pictures(3, seed=1):
        grey = torch.from_numpy(image).float().mean(dim=-1) / 255
        values = features(grey, filters(SMALL), SMALL).numpy()
        expected = gabor_features(image, grid=4, scales=3)
        assert values.shape == (16, 28)
        assert np.allclose(values, expected, atol=2e-3)


def test_map_equals_a_gaussian_per_position() -> None:
    train = np.stack([gabor_features(image, 4, 3) for image in pictures(24)])
    for image, result in zip(test := pictures(3, seed=2), scored(test), strict=True):
        expected = gabor_map(train, gabor_features(image, 4, 3), ridge=0.01, smoothing=1.0)
        assert np.allclose(result.anomaly_map, expected, rtol=5e-3)
        assert result.image_score == pytest.approx(float(result.anomaly_map.max()))


def test_a_filter_answers_its_own_wave_and_no_brightness() -> None:
    """Amplitude of a wave of the filter's length along its orientation: half the wave's; at right angles: nothing."""
    config = GaborConfig(image_side=64, grid=4, scales=1)
    wave = torch.cos(2 * torch.pi / 4 * torch.arange(64.0)).repeat(64, 1)  # along x
    amplitudes = features(0.5 + 0.2 * wave, filters(config), config).exp().reshape(4, 4, -1)[1:3, 1:3]
    assert amplitudes[..., 0] == pytest.approx(0.1, rel=0.02)
    assert float(amplitudes[..., 2].max()) < 1e-3
    flat = features(torch.full((64, 64), 0.7), filters(config), config).exp()
    assert float(flat[:, :8].max()) < 1e-5
    assert flat[:, 8] == pytest.approx(0.7, rel=1e-4)


def test_a_scratch_stands_out_where_it_is() -> None:
    images = pictures(2, seed=3, side=64)
    images[1, 40:44, 8:24] = 255
    config = GaborConfig(image_side=64, grid=8, smoothing=0.5, fit_on="train")
    good, bad = scored(images, config)
    assert bad.image_score > 2 * good.image_score
    y, x = np.unravel_index(bad.anomaly_map.argmax(), (8, 8))
    assert (y, x) in {(5, 0), (5, 1), (5, 2), (5, 3)}


def test_the_images_beside_it_change_no_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = fitted(), pictures(7, seed=4)
    together = scored(images, model=model)
    for i, result in enumerate(together):
        (alone,) = scored(images[i : i + 1], model=model)
        assert (result.image_score, result.anomaly_map.tobytes()) == (alone.image_score, alone.anomaly_map.tobytes())
        assert result.anomaly_map.dtype == np.float32
    monkeypatch.setattr(detector, "_BATCH", 2)
    assert [result.image_score for result in scored(images, model=model)] == [result.image_score for result in together]


def test_same_arguments_same_bytes() -> None:
    model, again = fitted(), fitted()
    assert {k: v.tobytes() for k, v in model.arrays.items()} == {k: v.tobytes() for k, v in again.arrays.items()}


def test_every_parameter_changes_something() -> None:
    plain = scored(pictures(1, 5))[0]
    for changes in (
        {"grid": 8},
        {"scales": 2},
        {"orientations": 3},
        {"wavelength": 5.0},
        {"sigma": 2.0},
        {"ridge": 0.1},
        {"smoothing": 0.0},
        {"fit_on": "train_and_validation"},
    ):
        config = GaborConfig(**{**SMALL.model_dump(), **changes})
        result = scored(pictures(1, 5), config)[0]
        assert result.image_score != plain.image_score, changes
    larger = GaborConfig(image_side=64, grid=4)
    assert scored(pictures(1, 5, side=64), larger)[0].image_score != plain.image_score
    assert scored(pictures(1, 5), GaborConfig(image_side=SIDE, grid=8))[0].anomaly_map.shape == (8, 8)


@pytest.mark.parametrize("train", [1, 2])
def test_few_or_constant_images_are_finite(train: int) -> None:
    model = fitted(train=train)
    assert all(np.isfinite(result.image_score) for result in scored(pictures(2, seed=6), model=model))
    flat = np.full((train, SIDE, SIDE, 3), 7, np.uint8)
    model = detector.fit(samples(flat), samples(flat), SMALL, 0, Session())
    assert scored(flat, model=model)[0].image_score == pytest.approx(0, abs=1e-3)
    assert all(np.isfinite(result.image_score) for result in scored(pictures(2), model=model))


@pytest.mark.parametrize(
    ("wrong", "texts"),
    [
        ({"image_side": 250}, ("250", "62.5", "32")),
        ({"image_side": 100, "grid": 10, "scales": 3}, ("100", "25", "10")),
        ({"image_side": 32, "grid": 2, "scales": 5}, ("32", "2 px")),
        ({"wavelength": 1.0}, ("wavelength",)),
    ],
)
def test_sides_that_do_not_fit_are_named(wrong: dict[str, float], texts: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError) as caught:
        GaborConfig(**wrong)  # type: ignore[arg-type]
    assert all(text in str(caught.value) for text in texts)


def test_it_reads_pixels_alone() -> None:
    assert detector.needs(SMALL) == frozenset()
