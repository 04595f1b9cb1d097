"""What validation images get from a model that has not learnt from them, of every detector."""

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
from stages.detectors.shared.held_out import with_held_out
from stages.training import Session
from stages.types import Fitted, Samples, ScoreMap
from tests.stages.onnx_graphs.test_graphs import SMALL, samples

FEATURED = {"compare": "features", "compare_side": 64, "image_side": 32, "surroundings": 1}
KINDS: list[tuple[str, dict[str, Any]]] = [
    *SMALL.items(),
    ("ear", SMALL["ear"] | FEATURED),
    ("intra", SMALL["intra"] | FEATURED | {"patch_side": 4}),
    ("padim", SMALL["padim"] | {"surroundings": 1}),
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
def test_validation_images_get_what_a_model_of_training_images_says(name: str, settings: dict[str, Any]) -> None:
    config, train, validation, first = made(name, settings, "train")
    assert not first.held_out
    *_, whole = made(name, settings, "train_and_validation")
    assert same(whole.held_out, list(detector(name).score(first, validation, config, "cpu")))
    judged = list(detector(name).score(whole, validation, config, "cpu"))
    assert not same(judged, whole.held_out)  # it has learnt from them ...
    scores = [[one.image_score for one in of] for of in (judged, whole.held_out)]
    assert np.mean(scores[0]) < np.mean(scores[1])  # ... and finds them less strange
    assert not same(*(list(detector(name).score(one, train, config, "cpu")) for one in (first, whole)))


@pytest.mark.parametrize(("name", "settings"), [(name, SMALL[name]) for name in ("knn", "padim", "pca", "gabor")])
def test_the_model_is_that_of_all_images_together(name: str, settings: dict[str, Any]) -> None:
    config, train, validation, whole = made(name, settings, "train_and_validation")
    both = Samples(
        [*train.ids, *(f"v{one}" for one in validation.ids)],
        *(np.concatenate([getattr(train, of)[:], getattr(validation, of)[:]]) for of in ("images", "raw", "clean")),
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


def test_the_second_model_is_made_only_where_it_is_asked_for() -> None:
    asked = []

    def models() -> Iterator[Fitted]:
        for name in ("first", "second"):
            asked.append(name)
            yield Fitted({}, info={"name": name})

    def score(fitted: Fitted, given: Samples, config: DetectorConfig, device: str) -> Iterator[ScoreMap]:
        yield ScoreMap(np.zeros((1, 1), np.float32), len(fitted.info["name"]))

    given = Samples(["a"], np.zeros((1, 8, 8, 3), np.uint8))
    alone = with_held_out(models(), given, PcaConfig(fit_on="train"), "cpu", score)
    assert (alone.info["name"], alone.held_out, asked) == ("first", (), ["first"])
    whole = with_held_out(models(), given, PcaConfig(fit_on="train_and_validation"), "cpu", score)
    assert (whole.info["name"], [one.image_score for one in whole.held_out]) == ("second", [5])
