"""Statistics and scale of pixel maps, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from stages.detectors.shared.highest import top_count
from stages.detectors.shared.pixel_maps import PixelStatistics, pixel_scale


def test_statistics_are_those_of_all_maps_so_far() -> None:
    maps = np.random.default_rng(0).random((5, 3, 3), np.float32)
    statistics = PixelStatistics(3)
    for plane in maps:
        statistics.add({"ssim": plane, "msgms": 2 * plane})
    arrays = statistics.to_arrays("raw.")
    assert list(arrays) == ["raw.ssim.mean", "raw.ssim.spread", "raw.msgms.mean", "raw.msgms.spread"]
    np.testing.assert_allclose(arrays["raw.ssim.mean"], maps.mean(0), rtol=1e-5)
    np.testing.assert_allclose(arrays["raw.msgms.spread"], 2 * maps.std(0), rtol=1e-4)


def test_scale_by_hand() -> None:
    spread = np.array([[3.0, 4.0]], np.float32)  # variances 9 and 16, mean 12.5
    np.testing.assert_allclose(pixel_scale(spread), np.sqrt([[21.5, 28.5]]))
    np.testing.assert_allclose(pixel_scale(spread, 2.0), np.sqrt([[34.0, 41.0]]))
    assert (pixel_scale(np.zeros((2, 2), np.float32)) > 0).all()


@pytest.mark.parametrize(("expected", "count"), [(0.0, 1), (0.4, 1), (1.6, 2), (40.96, 41)])
def test_at_least_one_pixel(expected: float, count: int) -> None:
    assert top_count(expected) == count
