"""InTra in tokens: what is painted is judged, the covered patch is not seen, and each parameter changes something."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stages.detectors.intra.config import IntraConfig
from stages.detectors.intra.detector import fit, score
from stages.detectors.intra.restore import inpaint, load
from stages.detectors.shared.token_space import TokenJudge
from stages.training import Session
from stages.types import Fitted, Samples, ScoreMap, UserError

SMALL: dict[str, Any] = {
    "features": "raw", "patch_cells": 2, "window_side": 3, "blocks": 2, "width": 16, "heads": 2, "mlp_ratio": 2,
    "windows_per_image": 40, "epochs": 12, "batch": 32, "lr": 0.01, "warmup_steps": 2, "validation_windows": 6,
    "channels": 3, "smoothing": 0.0, "image_side": 64,
}  # fmt: skip


def waves(count: int, seed: int) -> Samples:
    """Tokens of a grid of 6 x 6 along a wave with another phase in each image: what is around tells the phase."""
    generator = np.random.default_rng(seed)
    phase = generator.uniform(0, 2 * np.pi, (count, 1, 1))
    at = phase + np.arange(6)[:, None] * 0.7 + np.arange(6) * 0.4
    plane = np.stack([np.sin(at), np.cos(at), np.sin(2 * at), at * 0 + 1], axis=-1)
    noise = generator.normal(0, 0.05, plane.shape)
    return Samples(
        [f"{seed}-{i}" for i in range(count)], np.zeros((count, 1, 1, 3), np.uint8), (plane + noise).astype("f2")
    )


def spoilt(samples: Samples) -> Samples:
    """The patch in rows and columns 2 and 3 has another image's phase."""
    assert samples.raw is not None
    tokens = samples.raw[:].copy()
    tokens[:, 2:4, 2:4] = np.roll(tokens, 1, axis=0)[:, 2:4, 2:4]
    return Samples(samples.ids, samples.images, tokens)


TRAIN, VALIDATION = waves(40, 0), waves(6, 1)


def fitted(**changes: Any) -> Fitted:
    return fit(TRAIN, VALIDATION, IntraConfig(**{**SMALL, **changes}), 0, Session())


def scored(model: Fitted, samples: Samples, **changes: Any) -> list[ScoreMap]:
    return list(score(model, samples, IntraConfig(**{**SMALL, **changes}), "cpu"))


@pytest.fixture(scope="module")
def learned() -> Fitted:
    return fitted()


def separation(model: Fitted, **changes: Any) -> float:
    """Share of pairs in which the spoilt image scores above the good one."""
    good = np.array([one.image_score for one in scored(model, waves(12, 2), **changes)])
    bad = np.array([one.image_score for one in scored(model, spoilt(waves(12, 3)), **changes)])
    return float((bad[:, None] > good).mean())


def test_the_network_finds_what_the_mean_does_not(learned: Fitted) -> None:
    """Each token is as good ones are; only with those around it, it is not."""
    assert separation(learned) > 0.9
    assert separation(fitted(restore="mean"), restore="mean") < 0.75
    for one in scored(learned, spoilt(waves(4, 3))):
        row, column = np.unravel_index(one.anomaly_map.argmax(), (6, 6))
        assert row in (2, 3) and column in (2, 3)


def test_the_map_is_what_painting_leaves(learned: Fitted) -> None:
    config, judge = IntraConfig(**SMALL), TokenJudge(learned.arrays, 0.0)
    canvas = config.canvas(judge.space.shape)
    network = load(learned.arrays, config, canvas)
    test = waves(2, 4)
    assert test.raw is not None
    for tokens, one in zip(test.raw[:], scored(learned, test), strict=True):
        reduced = judge.space.reduce(tokens)
        restored = inpaint(network, reduced.astype(np.float16), canvas, config, "cpu").numpy()
        np.testing.assert_array_equal(one.anomaly_map, judge.map(tokens, restored))
        assert one.image_score == one.anomaly_map.max()
        np.testing.assert_array_equal(one.pictures["tokens"], judge.space.picture(reduced))
        np.testing.assert_array_equal(one.pictures["restoration"], judge.space.picture(restored))
        assert np.square(restored - reduced).mean() < 0.5 * np.square(reduced).mean()


def test_a_covered_patch_is_not_seen(learned: Fitted) -> None:
    config = IntraConfig(**SMALL)
    canvas = config.canvas((6, 6, 3))
    network, reduced = (
        load(learned.arrays, config, canvas),
        np.random.default_rng(0).normal(size=(6, 6, 3)).astype("f2"),
    )
    other = reduced.copy()
    other[2:4, 2:4] += 1
    a, b = (inpaint(network, one, canvas, config, "cpu").numpy() for one in (reduced, other))
    np.testing.assert_array_equal(a[2:4, 2:4], b[2:4, 2:4])
    assert np.abs(a - b)[:2].max() > 1e-3


@pytest.mark.parametrize(
    "changes", [{"channels": 2}, {"patch_cells": 1}, {"restore": "mean"}, {"features": "clean"}], ids=str
)
def test_parameters_of_tokens_change_the_model(learned: Fitted, changes: dict[str, Any]) -> None:
    train, validation = (
        Samples(part.ids, part.images, part.raw, clean=part.raw[:, :, ::-1] * np.float16(2))  # type: ignore[index]
        for part in (TRAIN, VALIDATION)
    )
    other = fit(train, validation, IntraConfig(**{**SMALL, **changes, "epochs": 1}), 0, Session())
    same = fit(train, validation, IntraConfig(**{**SMALL, "epochs": 1}), 0, Session())
    name = "tokens.rest.whitening"
    assert other.arrays[name].shape != same.arrays[name].shape or not np.array_equal(
        other.arrays[name], same.arrays[name]
    )


def test_smoothing_changes_the_map_only(learned: Fitted) -> None:
    plain, smooth = scored(learned, waves(1, 5))[0], scored(learned, waves(1, 5), smoothing=1.0)[0]
    assert smooth.image_score < plain.image_score


def test_a_grid_that_patches_do_not_fill_is_one_line() -> None:
    with pytest.raises(
        UserError, match=r"the grid of 6 x 6 tokens is not a multiple of patch_cells 4; take patch_cells 2"
    ):
        fitted(patch_cells=4)
