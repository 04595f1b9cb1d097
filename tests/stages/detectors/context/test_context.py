"""`context`: the map against a Gaussian over residuals, and a defect that only its surroundings give away."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from stages.detectors.context import detector
from stages.detectors.context.config import ContextConfig
from stages.detectors.shared import surroundings
from stages.training import Session
from stages.types import Samples
from tests.reference.floors import gaussian_map
from tests.stages.detectors.padim.test_padim import SIDE, extract, samples

SMALL: dict[str, Any] = {"image_side": SIDE, "surroundings": 1, "fit_on": "train"}


def test_the_map_is_a_gaussian_over_what_surroundings_do_not_explain() -> None:
    config = ContextConfig(**SMALL, ridge=0.01, shrinkage=0.3, normalised=False)
    train, test = samples(24, 0), samples(3, 2)
    model = detector.fit(train, samples(6, 1), config, 0, Session())
    features = extract(train.images)
    weights = surroundings.fit(features, 1)
    left = np.stack([surroundings.residual(image, weights, 1) for image in features])
    for image, one in zip(extract(test.images), detector.score(model, test, config, "cpu"), strict=True):
        expected = gaussian_map(left, surroundings.residual(image, weights, 1), 0.3, 0.01, 1.0, False)
        np.testing.assert_allclose(one.anomaly_map, expected, rtol=2e-3)
        assert one.image_score == one.anomaly_map.max()


def test_it_finds_a_cell_that_is_as_good_ones_are_but_not_as_those_around_it() -> None:
    def levels(count: int, seed: int) -> np.ndarray:
        """(count, 6, 6, 3) at a level of each image."""
        generator = np.random.default_rng(seed)
        return (generator.normal(0, 5, (count, 1, 1, 3)) + generator.normal(0, 0.3, (count, 6, 6, 3))).astype("f2")

    def of(tokens: np.ndarray) -> Samples:
        return Samples([str(i) for i in range(len(tokens))], np.zeros((len(tokens), 1, 1, 3), np.uint8), tokens)

    config = ContextConfig(features="raw", surroundings=2, smoothing=0.0)
    model = detector.fit(of(levels(60, 0)), of(levels(10, 1)), config, 0, Session())
    test = levels(10, 2)
    good = [one.image_score for one in detector.score(model, of(test), config, "cpu")]
    test[:, 3, 3] = np.roll(test, 1, axis=0)[:, 3, 3]
    bad = list(detector.score(model, of(test), config, "cpu"))
    assert min(one.image_score for one in bad) > max(good)
    assert all(one.anomaly_map.argmax() == 3 * 6 + 3 for one in bad)


@pytest.mark.parametrize(
    "changes",
    [
        {"surroundings": 2},
        {"normalised": False},
        {"shrinkage": 0.1},
        {"ridge": 0.5},
        {"smoothing": 0.0},
        {"fit_on": "train_and_validation"},
        {"features": "raw"},
    ],
    ids=str,
)
def test_every_parameter_changes_the_map(changes: dict[str, Any]) -> None:
    maps = []
    for settings in (SMALL, {**SMALL, **changes}):
        config = ContextConfig(**settings)
        assert detector.needs(config) == {config.features}
        model = detector.fit(samples(24, 0), samples(6, 1), config, 0, Session())
        maps.append(next(iter(detector.score(model, samples(1, 2), config, "cpu"))).anomaly_map)
    assert maps[0].shape != maps[1].shape or not np.allclose(*maps)


def test_other_kinds_of_features_are_compared_if_asked() -> None:
    config = ContextConfig(**SMALL, compare_features=True)
    model = detector.fit(samples(24, 0), samples(6, 1), config, 0, Session())
    (one,) = detector.score(model, samples(1, 2), config, "cpu")
    assert set(one.extras) == {"imagenet", "raw", "clean"} and one.extras["imagenet"] == one.image_score


def test_without_surroundings_it_would_be_padim() -> None:
    with pytest.raises(ValidationError, match="surroundings"):
        ContextConfig(surroundings=0)
