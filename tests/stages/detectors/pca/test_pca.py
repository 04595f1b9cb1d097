from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from stages.detectors.pca import detector
from stages.detectors.pca.config import PcaConfig
from stages.training import Session
from stages.types import Fitted, Samples, ScoreMap
from tests.reference.floors import pca_errors

SIDE = 12
SMALL = PcaConfig(image_side=SIDE, components=5, fit_on="train")


def pictures(count: int, seed: int = 0, side: int = SIDE) -> np.ndarray:
    """Stripes of random phase and some noise, RGB with unequal channels."""
    generator = np.random.default_rng(seed)
    phase = generator.uniform(0, 6, count)[:, None, None, None]
    base = 120 + 60 * np.sin(np.arange(side)[None, None, :, None] + phase)
    return np.clip(base + generator.normal(0, 10, (count, side, side, 3)), 0, 255).astype(np.uint8)


def samples(images: np.ndarray) -> Samples:
    return Samples([str(i) for i in range(len(images))], images)


def fitted(config: PcaConfig = SMALL, train: int = 20, seed: int = 0) -> Fitted:
    return detector.fit(samples(pictures(train)), samples(pictures(6, seed=9)), config, seed, Session())


def scored(images: np.ndarray, config: PcaConfig = SMALL, model: Fitted | None = None) -> list[ScoreMap]:
    return list(detector.score(model or fitted(config), samples(images), config, "cpu"))


@pytest.mark.parametrize("components", [1, 5, 19])
def test_equals_a_full_decomposition(components: int) -> None:
    config, test = PcaConfig(image_side=SIDE, components=components, fit_on="train"), pictures(4, seed=1)
    expected = pca_errors(pictures(20), test, components)
    for result, errors in zip(scored(test, config), expected, strict=True):
        assert np.allclose(result.anomaly_map, errors.reshape(SIDE, SIDE), rtol=2e-2, atol=2e-3)
        assert result.image_score == pytest.approx(errors.mean(), rel=5e-3)


def test_what_was_never_seen_scores_higher() -> None:
    normal = pictures(5, seed=2)
    odd = normal.copy()
    odd[:, 3:6, 3:6] = 255
    for good, bad in zip(scored(normal), scored(odd), strict=True):
        assert bad.image_score > good.image_score
        assert bad.anomaly_map[3:6, 3:6].mean() > 3 * bad.anomaly_map.mean()


def test_exposure_does_not_matter() -> None:
    """Standardised by itself: the same picture at half the contrast and brighter scores the same."""
    image = (pictures(1, seed=3) // 4 * 4).astype(np.uint8)
    full, half = scored(np.concatenate([image, image // 2 + 60]))
    assert half.image_score == pytest.approx(full.image_score, rel=0.01)


def test_the_images_beside_it_change_no_byte() -> None:
    model, images = fitted(), pictures(9, seed=4)
    together = scored(images, model=model)
    alone = [scored(images[i : i + 1], model=model)[0] for i in range(9)]
    for result, own in zip(together, alone, strict=True):
        assert result.image_score == own.image_score
        assert result.anomaly_map.tobytes() == own.anomaly_map.tobytes()
        assert result.anomaly_map.dtype == np.float32


def test_batches_change_no_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = fitted(), pictures(9, seed=4)
    before = [result.image_score for result in scored(images, model=model)]
    monkeypatch.setattr(detector, "_BATCH", 2)
    again = fitted()
    assert [result.image_score for result in scored(images, model=model)] == before
    assert all(again.arrays[name].tobytes() == model.arrays[name].tobytes() for name in model.arrays)


def test_same_arguments_same_bytes_and_the_seed_matters() -> None:
    model, again, other = fitted(), fitted(), fitted(seed=1)
    assert {k: v.tobytes() for k, v in model.arrays.items()} == {k: v.tobytes() for k, v in again.arrays.items()}
    assert model.arrays["components"].tobytes() != other.arrays["components"].tobytes()


def test_every_parameter_changes_something() -> None:
    plain = fitted()
    assert fitted(SMALL.model_copy(update={"components": 3})).arrays["components"].shape == (3, SIDE * SIDE)
    both = fitted(SMALL.model_copy(update={"fit_on": "train_and_validation"}))
    assert not np.allclose(both.arrays["mean"], plain.arrays["mean"])
    side = PcaConfig(image_side=8, components=5)
    small = detector.fit(samples(pictures(9, side=8)), samples(pictures(2, side=8)), side, 0, Session())
    (result,) = detector.score(small, samples(pictures(1, side=8)), side, "cpu")
    assert result.anomaly_map.shape == (8, 8)


def test_fewer_images_than_components() -> None:
    model = fitted(PcaConfig(image_side=SIDE, components=150, fit_on="train"), train=8)
    assert model.metrics["components"] == 7
    alone = fitted(train=1)
    assert alone.metrics["components"] == 0
    assert all(np.isfinite(result.image_score) for result in scored(pictures(2), model=alone))


def test_constant_images_are_finite() -> None:
    flat = np.full((3, SIDE, SIDE, 3), 7, np.uint8)
    model = detector.fit(samples(flat), samples(flat), SMALL, 0, Session())
    assert all(np.isfinite(result.image_score) for result in scored(pictures(2), model=model))
    assert scored(flat, model=model)[0].image_score == pytest.approx(0, abs=1e-6)


def test_it_reads_pixels_alone_and_refuses_odd_values() -> None:
    assert detector.needs(SMALL) == frozenset()
    for wrong in ({"image_side": 4}, {"components": 0}, {"fit_on": "test"}, {"component": 3}):
        with pytest.raises(ValidationError):
            PcaConfig(**wrong)  # type: ignore[arg-type]
