from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from stages.detectors.knn import detector
from stages.detectors.knn.config import KnnConfig
from stages.training import Session
from stages.types import Fitted, Samples, ScoreMap
from tests.stages.detectors.padim.test_padim import SIDE, samples


def fitted(config: KnnConfig) -> Fitted:
    return detector.fit(samples(24, 0), samples(6, 1), config, 0, Session())


def scored(config: KnnConfig, model: Fitted, test: Samples) -> list[ScoreMap]:
    return list(detector.score(model, test, config, "cpu"))


def test_the_map_holds_smoothed_distances_to_the_nearest_training_feature() -> None:
    config = KnnConfig(
        image_side=SIDE, features="raw", compare_features=False, neighbours=2, smoothing=0.7, fit_on="train"
    )
    train, test = samples(24, 0).raw.astype(np.float64), samples(2, 2)
    flat = train.reshape(-1, 6)
    flat = flat / flat.std(0)
    for values, result in zip(test.raw.astype(np.float64), scored(config, fitted(config), test), strict=True):
        own = values.reshape(-1, 6) / train.reshape(-1, 6).std(0)
        distances = np.sort(np.linalg.norm(own[:, None] - flat[None], axis=-1), axis=1)[:, :2].mean(1)
        np.testing.assert_allclose(result.anomaly_map, gaussian_filter(distances.reshape(3, 3), 0.7), rtol=1e-3)
        assert result.image_score == pytest.approx(float(result.anomaly_map.max()))


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_plain_and_cosine_distances_against_all_training_features(metric: Literal["euclidean", "cosine"]) -> None:
    config = KnnConfig(
        image_side=SIDE, features="raw", compare_features=False, metric=metric, memory_size=None, smoothing=0.0,
        top_share=0.3, fit_on="train",
    )  # fmt: skip
    model, test = fitted(config), samples(2, 2)
    assert len(model.arrays["raw.features"]) == 24 * 9
    memory = samples(24, 0).raw.astype(np.float64).reshape(-1, 6)
    for values, result in zip(test.raw.astype(np.float64), scored(config, model, test), strict=True):
        own = values.reshape(-1, 6)
        if metric == "cosine":
            cosines = own @ memory.T / np.linalg.norm(own, axis=1)[:, None] / np.linalg.norm(memory, axis=1)
            nearest = np.sqrt(np.clip(2 - 2 * cosines.max(1), 0, None))
        else:
            nearest = np.linalg.norm(own[:, None] - memory[None], axis=-1).min(1)
        np.testing.assert_allclose(result.anomaly_map.ravel(), nearest, rtol=2e-3, atol=2e-3)
        highest = np.sort(result.anomaly_map.ravel())[-3:]  # 0.3 of 9 cells
        assert result.image_score == pytest.approx(float(highest.mean()))


def test_kinds_are_compared() -> None:
    config = KnnConfig(image_side=SIDE)
    result = scored(config, fitted(config), samples(1, 2))[0]
    assert set(result.extras) == {"imagenet", "raw", "clean"}
    assert result.image_score == result.extras["imagenet"]


def test_each_parameter_changes_the_memory_or_the_map() -> None:
    base = KnnConfig(image_side=SIDE, features="raw", compare_features=False, coreset="random")
    first = scored(base, fitted(base), samples(2, 2))[0].anomaly_map
    greedy = {"memory_size": 20, "coreset": "greedy"}
    small = base.model_copy(update={"memory_size": 20})
    sampled = scored(small, fitted(small), samples(2, 2))[0].anomaly_map
    metrics = ({"metric": "euclidean"}, {"metric": "cosine"})
    for changes in (
        *metrics,
        {"neighbours": 3},
        {"smoothing": 0.0},
        {"memory_size": 20},
        greedy,
        {**greedy, "coreset_pool": 30},
    ):
        config = base.model_copy(update=changes)
        plane = scored(config, fitted(config), samples(2, 2))[0].anomaly_map
        assert not np.allclose(plane, first)
        assert "coreset" not in changes or not np.allclose(plane, sampled)
    pool = [base.model_copy(update={**greedy, "coreset_pool": size}) for size in (30, 216)]
    assert not np.array_equal(*(fitted(config).arrays["raw.owners"] for config in pool))


def test_an_image_scores_the_same_alone_and_among_others() -> None:
    config = KnnConfig(image_side=SIDE)
    model, many = fitted(config), samples(20, 2)
    assert scored(config, model, many.take([18]))[0].extras == scored(config, model, many)[18].extras
