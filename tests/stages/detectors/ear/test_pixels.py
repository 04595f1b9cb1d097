"""The standardised pixel map by hand."""

from __future__ import annotations

import numpy as np

from stages.detectors.ear.pixels import standardise
from tests.stages.detectors.ear.tiny import config


def test_standardised_map_by_hand() -> None:
    spread = np.array([[3.0, 4.0]], dtype=np.float32)  # variances 9 and 16, mean 12.5
    plane = standardise(
        np.array([[6.0, 8.0]], dtype=np.float32),
        np.array([[1.0, 2.0]], dtype=np.float32),
        spread,
        config(spread_floor=2.0, smooth_sigma=0.0),
    )
    np.testing.assert_allclose(plane, [[5 / np.sqrt(34), 6 / np.sqrt(41)]], rtol=1e-6)
