"""EAR in tokens: masks that cover the grid, a map in the cut only, and a cut that is not copied."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.detectors.ear.config import EarConfig
from stages.detectors.ear.detector import fit, score
from stages.detectors.ear.restore import new_network
from stages.detectors.ear.tokens import Recover, TokenFitter, tilings
from stages.detectors.shared.network_weights import load_weights
from stages.detectors.shared.token_space import TokenSpace
from stages.training import Session
from stages.types import Fitted, ScoreMap, UserError
from tests.stages.detectors.intra.test_tokens import spoilt, waves

SMALL: dict[str, Any] = {
    "features": "raw", "channels": 3, "smoothing": 0.0, "image_side": 64, "width": 8, "depth": 1,
    "mosaic_scales": (2, 3), "mask_fraction": 0.25, "memory_size": 100, "neighbours": 2, "epochs": 30,
    "batch": 10, "lr": 0.01, "compare_masks": False,
}  # fmt: skip
TRAIN, VALIDATION = waves(60, 0), waves(6, 1)


def fitted(**changes: Any) -> Fitted:
    return fit(TRAIN, VALIDATION, EarConfig(**{**SMALL, **changes}), 0, Session())


def scored(model: Fitted, samples: Any, **changes: Any) -> list[ScoreMap]:
    return list(score(model, samples, EarConfig(**{**SMALL, **changes}), "cpu"))


@pytest.fixture(scope="module")
def learned() -> Fitted:
    return fitted()


@given(st.tuples(st.integers(1, 40), st.integers(1, 40)), st.floats(0.01, 1))
def test_tilings_cover_each_cell_once(shape: tuple[int, int], fraction: float) -> None:
    masks = tilings(shape, fraction)
    assert masks.shape[1:] == shape
    assert (masks.sum(0) == 1).all()
    assert masks.any(axis=(1, 2)).all()


def test_tilings_have_about_the_area_of_a_mask() -> None:
    shares = tilings((32, 32), 0.15).mean(axis=(1, 2))
    assert len(shares) == 7
    assert shares.min() >= 2 / 16 and shares.max() <= 3 / 16


def test_the_map_counts_in_the_cut_only_and_pictures_show_it(learned: Fitted) -> None:
    for one in scored(learned, waves(3, 2)):
        cut = one.pictures["mask"] > 0
        assert cut.sum() == 9  # a quarter of 6 x 6
        assert (one.anomaly_map[~cut] == 0).all() and (one.anomaly_map[cut] > 0).all()
        assert one.image_score == one.anomaly_map.max() == one.extras["score_rarity_raw"] == one.extras["max"]
        different = (one.pictures["tokens"] != one.pictures["restoration"]).any(-1)
        assert not different[~cut].any() and different[cut].any()


def test_what_is_cut_is_restored_from_its_mosaic_and_what_is_around() -> None:
    seen: list[np.ndarray] = []

    class Watched:
        def __call__(self, image: Any) -> Any:
            seen.append(image.numpy())
            return image

        def parameters(self) -> Any:
            import torch

            return iter([torch.zeros(1)])

    reduced = np.arange(32, dtype=np.float32).reshape(4, 4, 2)
    mask = np.zeros((4, 4), np.bool_)
    mask[0, :2] = True
    Recover(Watched(), 2)(reduced, mask)  # type: ignore[arg-type]
    Recover(Watched(), 0)(reduced, mask)  # type: ignore[arg-type]
    mosaic, empty = (image[0].transpose(1, 2, 0) for image in seen)
    np.testing.assert_array_equal(mosaic[0, 0], reduced[:2, :2].mean(axis=(0, 1)))
    np.testing.assert_array_equal(empty[0, :2], 0)
    for image in (mosaic, empty):
        np.testing.assert_array_equal(image[~mask], reduced[~mask])


def test_the_network_leaves_less_of_good_images_than_the_mean(learned: Fitted) -> None:
    mean = fitted(restore="mean")
    assert mean.metrics.get("epochs") is None and learned.metrics["val_loss"] < 0.9  # the mean leaves 1
    good, bad = (
        np.array([one.image_score for one in scored(learned, part)]) for part in (waves(20, 2), spoilt(waves(20, 3)))
    )
    by_mean = [
        np.array([one.image_score for one in scored(mean, part, restore="mean")])
        for part in (waves(20, 2), spoilt(waves(20, 3)))
    ]
    assert (bad[:, None] > good).mean() > (by_mean[1][:, None] > by_mean[0]).mean() + 0.2


def test_statistics_are_of_places_that_were_cut(learned: Fitted) -> None:
    config, space = EarConfig(**SMALL), TokenSpace.from_arrays(learned.arrays)
    network = new_network(config, 3)
    load_weights(network, learned.arrays)
    recover = Recover(network.eval(), learned.info["scale"])
    assert TRAIN.raw is not None
    found = TokenFitter(recover, space, config).add(TRAIN.raw[:])
    rest = []
    for tokens in TRAIN.raw[:]:
        reduced, restored = space.reduce(tokens), np.full(space.shape, np.nan, np.float32)
        for mask in tilings((6, 6), 0.25):
            for row, column in zip(*np.nonzero(mask), strict=True):
                restored[row, column] = recover(reduced, mask)[row, column]
        rest.append(space.left(tokens, restored))
    np.testing.assert_allclose(found["tokens.rest.mean"], np.mean(rest, axis=0), atol=1e-4)


def test_each_kind_of_mask_has_its_score() -> None:
    def with_attention(part: Any) -> Any:
        from dataclasses import replace

        attention = np.random.default_rng(len(part)).random((len(part), 2, 6, 6)).astype("f2")
        return replace(part, attention=attention, clean=part.raw)

    settings = {**SMALL, "compare_masks": True, "epochs": 1}
    config = EarConfig(**settings)
    model = fit(with_attention(TRAIN), with_attention(VALIDATION), config, 0, Session())
    one = next(iter(score(model, with_attention(waves(1, 2)), config, "cpu")))
    assert {"score_attention", "score_rarity_raw", "score_rarity_clean", "max", "mean"} == set(one.extras)
    assert one.extras["score_attention"] != one.extras["score_rarity_raw"] == one.extras["score_rarity_clean"]
    assert {"tokens", "restoration", "mask", "mask_attention", "mask_rarity_raw", "mask_rarity_clean"} == set(
        one.pictures
    )


def test_a_grid_that_the_network_cannot_halve_is_one_line() -> None:
    with pytest.raises(UserError, match=r"ear: the tokens' grid 6 is not a multiple of 2\^depth = 4"):
        fitted(depth=2)
    with pytest.raises(UserError, match="mosaic scale 8 is larger than the tokens' grid 6"):
        fitted(mosaic_scales=(2, 8))


def test_the_space_of_tokens_has_the_configured_channels(learned: Fitted) -> None:
    assert TokenSpace.from_arrays(learned.arrays).shape == (6, 6, 3)
