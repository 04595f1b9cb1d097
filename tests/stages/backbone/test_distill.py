"""DVT step 3: the backbone learns to give what backbone and denoiser gave together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stages.backbone.build import build
from stages.backbone.config import DistillConfig
from stages.backbone.distill import distill
from stages.backbone.networks.load import load
from stages.training import Session
from stages.types import Fitted, UserError
from tests.stages.backbone.conftest import small, textures

ARTIFACT = np.random.default_rng(0).standard_normal((4, 4, 1)).astype(np.float32)


def targets(tokens: NDArray[np.float32]) -> NDArray[np.float32]:
    """A denoiser that takes one pattern of positions off all channels."""
    return tokens - ARTIFACT


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    return build(small(model="hybrid", layer_scale=0.5), textures(5, 0), textures(2, 1), 0, Session())


def run(fitted: Fitted, seed: int = 0, **options: Any) -> Fitted:
    config = DistillConfig(**{"epochs": 3, "batch": 2, "learning_rate": 0.01, **options})
    return distill(fitted, targets, textures(6, 2), textures(3, 3), config, seed, Session())


def error(fitted: Fitted, teacher: Fitted) -> float:
    images = textures(3, 4)
    wanted = targets(load(teacher, "cpu").extract(images).tokens)
    return float(np.square(load(fitted, "cpu").extract(images).tokens - wanted).mean())


def test_tokens_of_other_images_come_nearer_to_the_denoised_ones(fitted: Fitted) -> None:
    learnt = run(fitted, epochs=12)
    assert error(learnt, fitted) < 0.6 * error(fitted, fitted)
    assert learnt.info["digest"] != fitted.info["digest"] and learnt.info["grid"] == fitted.info["grid"]
    assert learnt.metrics["val_loss"] == min(epoch["val_loss"] for epoch in learnt.metrics["curve"])
    frozen = [name for name in fitted.arrays if not name.startswith("trunk.")]
    assert frozen and all((learnt.arrays[name] == fitted.arrays[name]).all() for name in frozen)


def test_same_arguments_same_bytes_and_everything_counts(fitted: Fitted) -> None:
    def digest(**options: Any) -> str:
        return run(fitted, **options).info["digest"]

    base = digest()
    assert digest() == base
    changes: list[dict[str, Any]] = [
        {"seed": 1}, {"epochs": 2}, {"batch": 3}, {"learning_rate": 0.02}, {"weight_decay": 1.0},
        {"cosine_weight": 0.0},
    ]  # fmt: skip
    for change in changes:
        assert digest(**change) != base, change


def test_patience_ends_training(fitted: Fitted) -> None:
    learnt = run(fitted, epochs=30, patience=1, learning_rate=1.0)
    assert len(learnt.metrics["curve"]) < 30


def test_what_cannot_learn_is_told() -> None:
    cnn = build(small(model="cnn"), textures(2, 0), textures(1, 1), 0, Session())
    with pytest.raises(UserError, match="`cnn` has no position embedding"):
        run(cnn)
    with pytest.raises(UserError, match="0 training and 1 validation images"):
        distill(cnn, targets, textures(0, 0), textures(1, 1), DistillConfig(epochs=1), 0, Session())
