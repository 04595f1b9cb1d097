"""Nearest-neighbour scores: the memory's sample, and distances against plain formulas."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.probe.neighbours import nearest_scores, sample_memory


def test_scores_by_hand():
    memory = np.array([[0.0, 0.0], [3.0, 4.0]], np.float32)
    tokens = np.array([[[[0.0, 1.0], [3.0, 4.0]]], [[[3.0, 10.0], [0.0, 0.0]]]], np.float16)  # (2, 1, 2, 2)
    assert nearest_scores(memory, tokens) == pytest.approx([1.0, 6.0])


def test_scores_equal_loops():
    rng = np.random.default_rng(0)
    memory = rng.standard_normal((30, 5)).astype(np.float32)
    tokens = rng.standard_normal((4, 3, 2, 5)).astype(np.float32)
    slow = [max(min(np.linalg.norm(t - m) for m in memory) for t in image.reshape(-1, 5)) for image in tokens]
    assert nearest_scores(memory, tokens) == pytest.approx(slow, rel=1e-5)


@given(images=st.integers(1, 7), count=st.integers(1, 60))
def test_memory_takes_as_much_from_each_image_and_no_token_twice(images, count):
    tokens = np.arange(images * 6, dtype=np.float32).reshape(images, 2, 3, 1)
    memory = sample_memory(tokens, count, 0)
    assert len(np.unique(memory)) == len(memory) == min(count, images * 6)
    shares = np.bincount((memory[:, 0] // 6).astype(int), minlength=images)
    assert shares.max() - shares.min() <= 1


def test_the_seed_draws_the_memory():
    tokens = np.arange(60, dtype=np.float32).reshape(2, 5, 6, 1)
    assert (sample_memory(tokens, 10, 0) == sample_memory(tokens, 10, 0)).all()
    assert (sample_memory(tokens, 10, 0) != sample_memory(tokens, 10, 1)).any()
    with pytest.raises(ValueError, match="no images"):
        sample_memory(tokens[:0], 10, 0)
