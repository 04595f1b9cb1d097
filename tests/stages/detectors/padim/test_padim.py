from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from stages.detectors.padim import detector
from stages.detectors.padim.config import PadimConfig
from stages.training import Session
from stages.types import Fitted, Samples, ScoreMap, UserError
from tests.reference.floors import gaussian_map

SIDE = 64


def extract(images: np.ndarray) -> np.ndarray:
    """(B, 64, 64, 3) -> (B, 4, 4, 5): means of cells and products of them; a stand-in for the CNN."""
    cells = images.reshape(len(images), 4, 16, 4, 16, 3).mean((2, 4), dtype=np.float64)
    mixed = np.concatenate([cells, cells[..., :1] * cells[..., 1:2] / 100, np.sin(cells[..., 2:])], axis=-1)
    return mixed.astype(np.float32)


def samples(count: int, seed: int, tokens: bool = True) -> Samples:
    generator = np.random.default_rng(seed)
    images = np.clip(
        generator.normal(120, 30, (count, SIDE, SIDE, 3)) + generator.normal(0, 20, (count, 1, 1, 3)), 0, 255
    )
    raw = generator.normal(3, 2, (count, 3, 3, 6)).astype(np.float16)
    ids = [f"{seed}-{i}" for i in range(count)]
    images = images.astype(np.uint8)
    return (
        Samples(ids, images, raw=raw, clean=raw * np.float16(0.5), imagenet=extract) if tokens else Samples(ids, images)
    )


def fitted(config: PadimConfig) -> Fitted:
    return detector.fit(samples(24, 0), samples(6, 1), config, 0, Session())


def scored(config: PadimConfig, model: Fitted, test: Samples) -> list[ScoreMap]:
    return list(detector.score(model, test, config, "cpu"))


@pytest.mark.parametrize("kind", ["imagenet", "raw"])
@pytest.mark.parametrize("shrinkage", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("normalised", [False, True])
def test_map_equals_a_gaussian_per_position(kind: str, shrinkage: float, normalised: bool) -> None:
    config = PadimConfig(
        features=kind,
        compare_features=False,
        image_side=SIDE,
        shrinkage=shrinkage,
        ridge=0.01,
        fit_on="train",
        normalised=normalised,
    )
    train, test = samples(24, 0), samples(3, 2)

    def features_of(part: Samples) -> np.ndarray:
        return extract(part.images) if kind == "imagenet" else part.raw.astype(np.float64)

    for values, result in zip(features_of(test), scored(config, fitted(config), test), strict=True):
        expected = gaussian_map(features_of(train), values, shrinkage, 0.01, 1.0, normalised)
        np.testing.assert_allclose(result.anomaly_map, expected, rtol=2e-3)
        assert result.image_score == pytest.approx(float(result.anomaly_map.max()))


def test_kinds_are_compared_and_each_is_what_it_would_be_alone() -> None:
    config = PadimConfig(image_side=SIDE)
    assert detector.needs(config) == {"imagenet", "raw", "clean"}
    together = scored(config, fitted(config), samples(3, 2))
    for kind in ("imagenet", "raw", "clean"):
        alone = PadimConfig(image_side=SIDE, features=kind, compare_features=False)
        assert detector.needs(alone) == {kind}
        for result, own in zip(together, scored(alone, fitted(alone), samples(3, 2)), strict=True):
            assert result.extras[kind] == own.image_score
            assert not own.extras
    assert together[0].image_score == together[0].extras["imagenet"]


def test_fit_on_validation_too_and_smoothing_and_ridge_change_the_map() -> None:
    base = PadimConfig(image_side=SIDE, compare_features=False, fit_on="train")
    first = scored(base, fitted(base), samples(2, 2))[0].anomaly_map
    for changes in (
        {"fit_on": "train_and_validation"},
        {"smoothing": 0.0},
        {"ridge": 0.5},
        {"shrinkage": 0.1},
        {"normalised": True},
    ):
        config = base.model_copy(update=changes)
        assert not np.allclose(scored(config, fitted(config), samples(2, 2))[0].anomaly_map, first)


def test_an_image_scores_the_same_alone_and_among_others() -> None:
    config = PadimConfig(image_side=SIDE)
    model, many = fitted(config), samples(20, 2)
    alone = scored(config, model, many.take([18]))[0]
    among = scored(config, model, many)[18]
    assert alone.image_score == among.image_score and alone.extras == among.extras


def test_one_image_and_constant_features_do_not_break_it() -> None:
    config = PadimConfig(image_side=SIDE, compare_features=False)
    flat = Samples(["a"], np.full((1, SIDE, SIDE, 3), 7, np.uint8), imagenet=extract)
    model = detector.fit(flat, flat, config, 0, Session())
    assert np.isfinite(scored(config, model, samples(2, 2))[0].anomaly_map).all()


def test_missing_features_are_one_line() -> None:
    with pytest.raises(UserError, match="needs features of the kind 'imagenet'"):
        detector.fit(
            samples(3, 0, tokens=False), samples(3, 1, tokens=False), PadimConfig(image_side=SIDE), 0, Session()
        )


def test_the_side_is_a_multiple_of_32() -> None:
    with pytest.raises(ValidationError, match="multiple of 32"):
        PadimConfig(image_side=100)
