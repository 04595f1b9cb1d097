"""Classifiers on features: what they can learn, what they must not learn, and their scores against plain formulas."""

from __future__ import annotations

import numpy as np
import pytest

from stages.probe.probes import NEIGHBOURS, knn_probe, linear_probe


def labelled(n: int = 120, gap: float = 3.0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 2 == 0
    features = rng.normal(size=(n, 8))
    features[labels, 0] += gap
    return features, labels, [str(i // 6) for i in range(n)]


@pytest.mark.parametrize("probe", [knn_probe, linear_probe])
def test_what_features_tell_is_found_and_chance_is_chance(probe) -> None:  # type: ignore[no-untyped-def]
    features, labels, groups = labelled()
    assert probe(features, labels, groups).auroc > 0.95
    assert 0.25 < probe(*labelled(gap=0)).auroc < 0.75
    assert probe(features, labels, groups) == probe(1000 * features + 5, labels, groups)  # units do not matter


@pytest.mark.parametrize("probe", [knn_probe, linear_probe])
def test_twins_cannot_vouch_for_each_other(probe) -> None:  # type: ignore[no-untyped-def]
    """Features that tell groups apart perfectly, and labels of groups at random: nothing to learn beyond the group."""
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(40), 6)
    labels = rng.permutation(np.arange(40) % 2 == 0)[groups]
    features = rng.normal(size=(40, 60))[groups] + 0.01 * rng.normal(size=(240, 60))
    assert probe(features, labels, [str(i) for i in range(240)]).auroc > 0.95  # as a random split would say
    assert probe(features, labels, groups.astype(str).tolist()).auroc < 0.75


def test_the_nearest_neighbours_by_hand() -> None:
    features, labels, _ = labelled(60, 1.0)
    groups = ["a" if i < 30 else "b" for i in range(60)]
    expected = np.zeros(60)
    for seen in (np.arange(30), np.arange(30, 60)):
        other = np.setdiff1d(np.arange(60), seen)
        scaled = (features - features[seen].mean(0)) / features[seen].std(0)
        unit = scaled / np.linalg.norm(scaled, axis=1, keepdims=True)
        for i in other:
            alike = unit[seen] @ unit[i]
            near = np.argsort(-alike)[:NEIGHBOURS]
            weights = np.clip(alike[near], 0, None) + 1e-6
            expected[i] = (weights * labels[seen][near]).sum() / weights.sum()
    good, bad = expected[~labels], expected[labels]
    wins = (bad[:, None] > good).mean() + 0.5 * (bad[:, None] == good).mean()
    assert knn_probe(features, labels, groups).auroc == pytest.approx(wins, abs=2e-3)


def test_without_two_classes_or_groups_there_is_a_reason() -> None:
    features, labels, groups = labelled()
    assert knn_probe(features, np.zeros(120), groups).reason == "the labelled images are of one class"
    one = ["x" if bad else group for bad, group in zip(labels, groups, strict=True)]
    result = linear_probe(features, labels, one)
    assert result.auroc is None and result.reason == "the images of a class are all of one group"
