"""Suspects among good images: strange images and groups, and distances against plain formulas."""

from __future__ import annotations

import numpy as np
import pytest

from stages.audit.config import AuditConfig
from stages.audit.suspects import suspicion
from stages.types import UserError


def good(n: int = 60, c: int = 12) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, 3, 3, c)).astype(np.float32)


def groups(n: int = 60, size: int = 6) -> list[str]:
    return [str(i // size) for i in range(n)]


def test_a_strange_image_comes_first_and_where_it_is_strange() -> None:
    tokens = good()
    tokens[17, 2, 1] += 8
    result = suspicion(tokens, groups(), AuditConfig(), 0)
    assert result is not None
    assert result.scores.argmax() == 17 and result.deviation[17] > 3.5
    assert np.unravel_index(result.maps[17].argmax(), (3, 3)) == (2, 1)
    assert np.median(result.deviation) == pytest.approx(0)


def test_a_strange_group_cannot_vouch_for_itself() -> None:
    tokens = good()
    tokens[12:18, 0, 0] += 8  # all six of a group
    result = suspicion(tokens, groups(), AuditConfig(), 0)
    spread = suspicion(tokens, [str(i % 10) for i in range(60)], AuditConfig(), 0)  # over ten groups
    assert result is not None and spread is not None
    assert set(np.argsort(-result.scores)[:6]) == set(range(12, 18))
    assert result.scores[12:18].min() > 1.3 * spread.scores[12:18].max()


def test_distances_are_those_of_plain_formulas() -> None:
    tokens = good(30, 5)
    names = groups(30, 15)  # two groups: each is scored by the other
    result = suspicion(tokens, names, AuditConfig(), 0)
    assert result is not None
    scaled = (tokens - tokens.mean((0, 1, 2))) / tokens.std((0, 1, 2))
    seen = scaled[15:].astype(np.float64)
    own = [[np.cov(seen[:, i, j].T, bias=True) for j in range(3)] for i in range(3)]
    pooled = np.mean([own[i][j] for i in range(3) for j in range(3)], axis=0)
    for i, j in ((0, 0), (1, 2)):
        inverse = np.linalg.inv(0.5 * own[i][j] + 0.5 * pooled + 1e-3 * np.eye(5))
        offset = scaled[4, i, j] - seen[:, i, j].mean(0)
        assert result.maps[4, i, j] == pytest.approx(np.sqrt(offset @ inverse @ offset), rel=1e-3)


def test_channels_are_chosen_by_the_seed_and_grids_averaged() -> None:
    tokens = np.random.default_rng(0).normal(size=(40, 20, 20, 12)).astype(np.float32)
    names = groups(40)
    few = AuditConfig(channels=4)
    first, again, other = (suspicion(tokens, names, few, seed) for seed in (0, 0, 1))
    assert first is not None and again is not None and other is not None
    assert first.maps.shape == (40, 14, 14)
    assert first.maps.tobytes() == again.maps.tobytes() != other.maps.tobytes()
    whole = suspicion(tokens, names, AuditConfig(channels=12), 0)
    assert whole is not None and not np.allclose(whole.scores, first.scores)


def test_one_group_gives_no_result_and_lengths_must_agree() -> None:
    assert suspicion(good(), ["one"] * 60, AuditConfig(), 0) is None
    with pytest.raises(UserError, match="60 images, but 59 groups"):
        suspicion(good(), groups()[:-1], AuditConfig(), 0)
