"""The memory, the search in it, and what keeps an image from finding itself."""

from __future__ import annotations

import numpy as np
import pytest

from stages.detectors.shared import nearest
from stages.detectors.shared.nearest import Memory, Search, coreset, sample_memory
from tests.reference import ear_mask as slow


def _tokens(seed: int, images: int = 5) -> np.ndarray:
    tokens = np.random.default_rng(seed).normal(size=(images, 3, 4, 6)) * np.arange(1, 7) + 20
    return tokens.astype(np.float16)


def _memory(tokens: np.ndarray, size: int, seed: int = 0) -> Memory:
    return sample_memory([tokens], len(tokens), 12, size, seed)


@pytest.mark.parametrize("owner", [-1, 2])
@pytest.mark.parametrize(("chunk", "kept"), [(7, 16), (7, 2), (10_000, 16)])
def test_the_search_is_the_slow_search(monkeypatch: pytest.MonkeyPatch, chunk: int, kept: int, owner: int) -> None:
    monkeypatch.setattr(nearest, "CHUNK", chunk)
    monkeypatch.setattr(nearest, "KEPT", kept)
    tokens = _tokens(0)
    memory = _memory(tokens, 40, seed=1)
    fast = Search(memory, neighbours=3).distances(tokens[2].reshape(12, 6), owner)
    expected = slow.distances(
        tokens[2].astype(np.float64), memory.features.astype(np.float64), memory.owners, owner, neighbours=3
    )
    np.testing.assert_allclose(fast, expected.ravel(), rtol=2e-3, atol=2e-3)


def test_a_training_image_does_not_find_itself() -> None:
    tokens = _tokens(0)
    tokens[3, 1, 1] += 40  # a patch like no other
    distances = Search(_memory(tokens, 10_000), neighbours=1).distances(tokens[3].reshape(12, 6), owner=3)
    assert distances.argmax() == 5  # row 1, column 1
    assert Search(_memory(tokens, 10_000), neighbours=1).distances(tokens[3].reshape(12, 6))[5] < 0.1


def test_the_only_training_image_has_no_distance() -> None:
    tokens = _tokens(0, images=1)
    assert (Search(_memory(tokens, 10_000), neighbours=2).distances(tokens[0].reshape(12, 6), owner=0) == 0).all()


def test_a_constant_channel_does_not_spoil_the_distance() -> None:
    tokens = _tokens(0)
    tokens[..., 2] = 7
    assert np.isfinite(Search(_memory(tokens, 30), neighbours=2).distances(_tokens(1)[0].reshape(12, 6))).all()


def test_memory_is_drawn_from_the_seed_without_repeats_and_knows_its_owners() -> None:
    tokens = _tokens(0)
    tokens[...] = np.arange(60).reshape(5, 3, 4, 1)  # a patch's features are its number
    memory = _memory(tokens, 25, seed=3)
    numbers = memory.features[:, 0].astype(int)
    assert len(set(numbers)) == 25
    np.testing.assert_array_equal(memory.owners, numbers // 12)
    in_parts = sample_memory((tokens[rows] for rows in (slice(0, 2), slice(2, 5))), 5, 12, 25, seed=3)
    np.testing.assert_array_equal(in_parts.features, memory.features)
    assert not np.array_equal(_memory(tokens, 25, seed=4).features, memory.features)


@pytest.mark.parametrize("channels", [1, 16, 17, 40])
def test_centre_and_spread_are_those_of_each_channel(channels: int) -> None:
    tokens = np.random.default_rng(0).normal(3, 2, (4, 5, 5, channels)).astype(np.float16)
    memory = sample_memory([tokens], 4, 25, 60, seed=0)
    values = memory.features.astype(np.float64)
    np.testing.assert_allclose(memory.centre, values.mean(0), rtol=1e-5)
    np.testing.assert_allclose(memory.spread, values.std(0), rtol=1e-5)


def test_the_coreset_takes_the_farthest_first_and_no_feature_twice() -> None:
    places = np.array([0.0, 0.1, 0.2, 0.3, 10.0, 5.0] * 4, np.float16)[:, None]  # six places, four times each
    memory = Memory(places, np.arange(24, dtype=np.int32), places.mean(0, dtype=np.float32), places.std(0).astype("f4"))
    kept = coreset(memory, 3, seed=0)
    assert {0.0, 5.0, 10.0} == {round(float(v), 0) for v in kept.features[:, 0]}
    everything = coreset(memory, 23, seed=0)
    assert len(set(everything.owners)) == 23  # equal ones too, one by one
    assert coreset(memory, 24, seed=0) is memory
    np.testing.assert_array_equal(coreset(memory, 3, seed=0).owners, kept.owners)


def test_the_coreset_leaves_no_feature_as_far_as_a_drawn_memory_does() -> None:
    tokens = _tokens(0, images=40)
    whole = _memory(tokens, 10_000)
    small, greedy = _memory(tokens, 40), coreset(whole, 40, seed=0)
    queries = whole.features.astype(np.float32)
    near = [
        Search(Memory(m.features, m.owners, whole.centre, whole.spread), 1).distances(queries).max()
        for m in (small, greedy)
    ]
    assert near[1] < near[0]
