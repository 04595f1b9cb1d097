"""What the principal components of good features do not explain: against singular values, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from stages.detectors.subspace import detector
from stages.detectors.subspace.config import SubspaceConfig
from stages.training import Session
from stages.types import Fitted, Samples, ScoreMap
from tests.stages.detectors.padim.test_padim import SIDE, extract, samples


def fitted(config: SubspaceConfig, train: Samples | None = None) -> Fitted:
    return detector.fit(train or samples(24, 0), samples(6, 1), config, 0, Session())


def scored(config: SubspaceConfig, model: Fitted, test: Samples) -> list[ScoreMap]:
    return list(detector.score(model, test, config, "cpu"))


@pytest.mark.parametrize("kind", ["imagenet", "raw"])
@pytest.mark.parametrize("fit_on", ["train", "train_and_validation"])
def test_map_equals_the_residual_of_a_singular_value_decomposition(kind: str, fit_on: str) -> None:
    config = SubspaceConfig(
        image_side=SIDE, features=kind, compare_features=False, explained=0.8, smoothing=0.7, top_share=0.3,
        fit_on=fit_on,
    )  # fmt: skip

    def features_of(part: Samples) -> np.ndarray:
        values = extract(np.asarray(part.images[:])) if kind == "imagenet" else np.asarray(part.raw[:])
        return values.astype(np.float64)

    parts = [samples(24, 0)] + ([samples(6, 1)] if fit_on == "train_and_validation" else [])
    flat = np.concatenate([features_of(part).reshape(-1, features_of(part).shape[-1]) for part in parts])
    mean = flat.mean(0)
    _, values, vectors = np.linalg.svd(flat - mean, full_matrices=False)
    share = np.cumsum(values**2) / (values**2).sum()
    kept = int(np.argmax(share >= 0.8)) + 1
    model, test = fitted(config), samples(2, 2)
    assert model.metrics["components"] == {kind: kept}
    assert 0 < kept < flat.shape[1]
    for own, result in zip(features_of(test), scored(config, model, test), strict=True):
        rest = (own.reshape(-1, own.shape[-1]) - mean) @ vectors[kept:].T
        expected = gaussian_filter((rest**2).sum(1).reshape(own.shape[:2]), 0.7)
        np.testing.assert_allclose(result.anomaly_map, expected, rtol=1e-3)
        highest = np.sort(result.anomaly_map.ravel())[-max(1, round(0.3 * expected.size)) :]
        assert result.image_score == pytest.approx(float(highest.mean()))


def test_by_hand_in_two_channels() -> None:
    """Good patches lie on the line y = 1, so the component is x, and the score is the squared distance from it."""
    x = np.array([[-2.0, -1.0, 0.0], [1.0, 2.0, 3.0], [-3.0, 0.5, -0.5]], np.float16)
    good = np.stack([x, np.ones_like(x)], -1)[None].repeat(3, 0)
    odd = good[:1].copy()
    odd[0, 1, 1, 1] = 4.0
    blank = np.zeros((3, SIDE, SIDE, 3), np.uint8)
    train, test = Samples(list("abc"), blank, raw=good), Samples(["d"], blank[:1], raw=odd)
    config = SubspaceConfig(features="raw", compare_features=False, smoothing=0.0, top_share=0.0, fit_on="train")
    model = detector.fit(train, train, config, 0, Session())
    np.testing.assert_allclose(np.abs(model.arrays["raw.components"]), [[1, 0]], atol=1e-6)
    (result,) = scored(config, model, test)
    expected = np.zeros((3, 3))
    expected[1, 1] = 9.0
    np.testing.assert_allclose(result.anomaly_map, expected, atol=1e-5)
    assert result.image_score == pytest.approx(9.0)


def test_equal_good_images_have_no_components_and_no_score() -> None:
    blank = np.zeros((2, SIDE, SIDE, 3), np.uint8)
    flat = Samples(["a", "b"], blank, raw=np.ones((2, 2, 2, 3), np.float16))
    config = SubspaceConfig(features="raw", compare_features=False)
    model = detector.fit(flat, flat, config, 0, Session())
    assert model.metrics["components"] == {"raw": 0}
    assert [one.image_score for one in scored(config, model, flat)] == [0.0, 0.0]
    assert [one.image_score for one in model.held_out] == [0.0, 0.0]


def test_kinds_are_compared_and_each_parameter_counts() -> None:
    base = SubspaceConfig(image_side=SIDE, explained=0.5)
    first = scored(base, fitted(base), samples(2, 2))
    assert set(first[0].extras) == {"imagenet", "raw", "clean"}
    assert first[0].image_score == first[0].extras["raw"]
    for changes in ({"explained": 0.9}, {"smoothing": 0.0}, {"top_share": 0.5}, {"features": "imagenet"}):
        config = base.model_copy(update=changes)
        assert scored(config, fitted(config), samples(2, 2))[0].image_score != first[0].image_score


def test_an_image_scores_the_same_alone_and_among_others() -> None:
    config = SubspaceConfig(image_side=SIDE, explained=0.8)
    model, many = fitted(config), samples(20, 2)
    assert scored(config, model, many.take([18]))[0].extras == scored(config, model, many)[18].extras
