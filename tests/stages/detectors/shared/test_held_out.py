"""The results of every detector's training-only model on validation images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stages.detectors.interface import DetectorConfig, ImageNetConfig
from stages.detectors.pca.config import PcaConfig
from stages.detectors.registry import CONFIGS, detector
from stages.detectors.shared.held_out import fit_with_validation_results
from stages.training import Session
from stages.types import Fitted, Samples, ScoreMap
from tests.stages.onnx_graphs.test_graphs import PIXELS, SMALL, samples

KINDS: list[tuple[str, dict[str, Any]]] = [
    *SMALL.items(),
    ("ear", SMALL["ear"] | {"space": "pixels", "image_side": 32}),
    ("intra", SMALL["intra"] | PIXELS),
]


def extract(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(B, S, S, 3) -> (B, 8, 8, 5); a stand-in for the CNN."""
    cells = images.reshape(len(images), 8, images.shape[1] // 8, 8, -1, 3).mean((2, 4), dtype=np.float64)
    return np.concatenate([cells, cells[..., :1] * cells[..., 1:2] / 100, np.sin(cells[..., 2:])], -1).astype("f4")


def made(name: str, settings: dict[str, Any], fit_on: str) -> tuple[DetectorConfig, Samples, Samples, Fitted]:
    config = CONFIGS[name](**{**settings, "fit_on": fit_on})
    more = {"imagenet": extract} if isinstance(config, ImageNetConfig) else {}
    train, validation = (replace(samples(count, count, config.input_side), **more) for count in (8, 3))
    return config, train, validation, detector(name).fit(train, validation, config, 0, Session())


def same(ours: Sequence[ScoreMap], theirs: Sequence[ScoreMap]) -> bool:
    return len(ours) == len(theirs) and all(
        (a.image_score, a.extras, a.anomaly_map.tobytes(), a.pictures.keys())
        == (b.image_score, b.extras, b.anomaly_map.tobytes(), b.pictures.keys())
        and all(a.pictures[key].tobytes() == b.pictures[key].tobytes() for key in a.pictures)
        for a, b in zip(ours, theirs, strict=True)
    )


@pytest.mark.parametrize(("name", "settings"), KINDS)
def test_validation_images_have_the_results_of_the_training_only_model(name: str, settings: dict[str, Any]) -> None:
    config, train, validation, first = made(name, settings, "train")
    assert not first.held_out
    *_, whole = made(name, settings, "train_and_validation")
    assert same(whole.held_out, list(detector(name).score(first, validation, config, "cpu")))
    fitted_on = list(detector(name).score(whole, validation, config, "cpu"))
    assert not same(fitted_on, whole.held_out)  # the deployed model was fitted on them ...
    scores = [[result.image_score for result in results] for results in (fitted_on, whole.held_out)]
    assert np.mean(scores[0]) < np.mean(scores[1])  # ... and gives them lower scores
    assert not same(*(list(detector(name).score(model, train, config, "cpu")) for model in (first, whole)))


@pytest.mark.parametrize(("name", "settings"), [(name, SMALL[name]) for name in ("knn", "padim", "pca", "gabor")])
def test_the_model_is_that_of_all_images_together(name: str, settings: dict[str, Any]) -> None:
    config, train, validation, whole = made(name, settings, "train_and_validation")
    both = Samples(
        [*train.ids, *(f"v{name}" for name in validation.ids)],
        *(np.concatenate([getattr(train, key)[:], getattr(validation, key)[:]]) for key in ("images", "raw", "clean")),
        imagenet=train.imagenet,
    )
    together = detector(name).fit(both, validation, config.model_copy(update={"fit_on": "train"}), 0, Session())
    assert whole.metrics == together.metrics and whole.arrays.keys() == together.arrays.keys()
    for key, values in whole.arrays.items():
        np.testing.assert_allclose(values, together.arrays[key], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["ear", "intra"])
def test_no_network_learns_from_validation_images(name: str) -> None:
    models = [made(name, SMALL[name], fit_on)[3] for fit_on in ("train", "train_and_validation")]
    names = [key for key in models[0].arrays if key.startswith(("network.", "memory."))]
    assert names
    assert all(models[0].arrays[key].tobytes() == models[1].arrays[key].tobytes() for key in names)


def test_the_model_is_extended_only_if_the_deployed_model_is_another() -> None:
    calls = []

    def fit_on_training() -> tuple[Fitted, str]:
        calls.append("fit")
        return Fitted({}, info={"name": "first"}), "state"

    def extend(state: str) -> Fitted:
        calls.append(f"extend {state}")
        return Fitted({}, info={"name": "second"})

    def score(fitted: Fitted, samples: Samples, config: DetectorConfig, device: str) -> Iterator[ScoreMap]:
        calls.append(f"score {fitted.info['name']}")
        yield ScoreMap(np.zeros((1, 1), np.float32), 5.0)

    def deployed(fit_on: str) -> Fitted:
        config = PcaConfig(fit_on=fit_on)  # type: ignore[arg-type]
        return fit_with_validation_results(fit_on_training, extend, validation, config, "cpu", score)

    validation = Samples(["a"], np.zeros((1, 8, 8, 3), np.uint8))
    alone = deployed("train")
    assert (alone.info["name"], alone.held_out, calls) == ("first", (), ["fit"])
    calls.clear()
    both = deployed("train_and_validation")
    assert (both.info["name"], [result.image_score for result in both.held_out]) == ("second", [5])
    assert calls == ["fit", "score first", "extend state"]
