"""Positional leakage: full, none, and equal to a plain least-squares solution."""

from __future__ import annotations

import numpy as np
import pytest

from stages.probe.leakage import positional_leakage


def test_leakage_of_positions_and_of_noise():
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((40, 6, 5, 3))
    y, x = np.meshgrid(np.arange(6.0), np.arange(5.0), indexing="ij")
    placed = noise.copy()
    placed[..., 0] = 3 * y + 7  # the row exactly, the column not at all
    result = positional_leakage(placed[:20], placed[20:], ridge=1e-9)
    assert result.row == pytest.approx(1, abs=1e-6) and abs(result.column) < 0.05
    assert result.mean == pytest.approx((result.row + result.column) / 2)
    assert positional_leakage(noise[:20], noise[20:]).mean < 0.02
    placed[..., 1] = noise[..., 1] + x - 2
    assert 0.3 < positional_leakage(placed[:20], placed[20:]).column < 0.9


def test_leakage_equals_least_squares_with_the_penalty_as_extra_rows():
    rng = np.random.default_rng(1)
    tokens = rng.standard_normal((10, 4, 5, 6)) + rng.standard_normal((4, 5, 6))
    y, x = np.meshgrid(np.arange(4.0), np.arange(5.0), indexing="ij")
    target = np.tile(np.stack([y.ravel(), x.ravel()], 1), (5, 1))
    train, test = tokens[:5].reshape(-1, 6), tokens[5:].reshape(-1, 6)
    train, test = (train - train.mean(0)) / train.std(0), (test - train.mean(0)) / train.std(0)
    rows = np.concatenate([train, np.sqrt(0.1 * 100) * np.eye(6)])
    weights = np.linalg.lstsq(rows, np.concatenate([target - target.mean(0), np.zeros((6, 2))]))[0]
    prediction = test @ weights + target.mean(0)
    scores = 1 - ((target - prediction) ** 2).sum(0) / ((target - target.mean(0)) ** 2).sum(0)
    result = positional_leakage(tokens[:5], tokens[5:], ridge=0.1)
    assert [result.row, result.column] == pytest.approx(scores, abs=1e-9)


def test_leakage_needs_images_of_one_shape():
    with pytest.raises(ValueError, match="cannot compare"):
        positional_leakage(np.zeros((0, 2, 2, 3)), np.zeros((1, 2, 2, 3)))
