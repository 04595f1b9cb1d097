"""The mosaic hint and the choice of its scale."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.detectors.ear.hint import NO_HINT, choose_scale, excise, mosaic
from tests.reference import ear_hint as slow


def test_mosaic_by_hand_with_cells_cut_by_the_border() -> None:
    image = torch.arange(9.0).view(1, 1, 3, 3)
    expected = torch.tensor([[2.0, 2.0, 3.5], [2.0, 2.0, 3.5], [6.5, 6.5, 8.0]])
    assert torch.equal(mosaic(image, 2)[0, 0], expected)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 99), side=st.integers(1, 12), scale=st.integers(1, 12))
def test_mosaic_is_the_slow_one(seed: int, side: int, scale: int) -> None:
    image = np.random.default_rng(seed).random((3, side, side))
    np.testing.assert_allclose(mosaic(torch.from_numpy(image)[None], scale)[0], slow.mosaic(image, scale), atol=1e-12)


def test_excision_touches_only_what_lies_under_the_mask() -> None:
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(2, 1, 8, 8, dtype=torch.bool)
    masks[0, :, 2:5, 1:7] = True
    for scale in (NO_HINT, 4):
        cut = excise(images, masks, scale)
        everywhere = masks.expand_as(images)
        assert torch.equal(cut[~everywhere], images[~everywhere])
        filling = torch.zeros_like(images) if scale == NO_HINT else mosaic(images, scale)
        assert torch.equal(cut[everywhere], filling[everywhere])


@pytest.mark.parametrize(("tolerance", "chosen"), [(0.0, 2), (0.1, 4), (0.5, 8), (9.0, 16)])
def test_coarsest_scale_within_the_tolerance_of_the_finest(tolerance: float, chosen: int) -> None:
    assert choose_scale({16: 0.3, 2: 0.1, 4: 0.11, 8: 0.14}, tolerance) == chosen


def test_a_coarser_scale_that_restores_better_is_taken() -> None:
    assert choose_scale({2: 0.2, 8: 0.1, 16: 0.19}, 0.0) == 16  # measured against the finest, not the best
