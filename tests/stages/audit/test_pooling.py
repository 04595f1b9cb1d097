"""Tokens over a coarse grid, against plain means."""

from __future__ import annotations

import numpy as np
import pytest

from stages.audit.pooling import pool_tokens


@pytest.mark.parametrize(("shape", "side"), [((5, 4), 2), ((3, 7), 3), ((2, 2), 5)])
def test_parts_have_the_mean_of_their_tokens(shape: tuple[int, int], side: int) -> None:
    tokens = np.random.default_rng(0).normal(size=(70, *shape, 3)).astype(np.float16)  # more than one batch
    pooled = pool_tokens(tokens, side)
    rows, columns = (np.linspace(0, size, min(size, side) + 1).round().astype(int) for size in shape)
    assert pooled.shape == (70, len(rows) - 1, len(columns) - 1, 3)
    for i, j in np.ndindex(pooled.shape[1:3]):
        part = tokens[:, rows[i] : rows[i + 1], columns[j] : columns[j + 1]].astype(np.float64)
        np.testing.assert_allclose(pooled[:, i, j], part.mean((1, 2)), atol=1e-5)
    np.testing.assert_array_equal(pool_tokens(tokens, side, np.array([2, 0])), pooled[..., [2, 0]])
