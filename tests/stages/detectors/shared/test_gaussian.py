"""What is usual at a position: against leaving each image out in turn."""

from __future__ import annotations

import numpy as np
import pytest

from stages.detectors.shared.gaussian import MINIMUM_SHARE, Distance, Sums, _normal_distance


@pytest.mark.parametrize(("count", "shrinkage"), [(40, 0.5), (40, 0.1), (12, 0.5)])
def test_the_usual_distance_is_that_of_images_left_out(count: int, shrinkage: float) -> None:
    """At positions that vary little, much, in few directions, and in channels that others hardly have."""
    generator, channels = np.random.default_rng(0), 8
    scales = np.array([np.full(8, 0.3), np.full(8, 2.0), [3.0] * 2 + [0.1] * 6, [0.1] * 6 + [2.0] * 2])
    images = generator.standard_normal((count, len(scales), channels)) * scales
    own = np.array([np.cov(images[:, p], rowvar=False) for p in range(len(scales))])
    base = shrinkage * own.mean(0) + 1e-3 * np.eye(channels)

    def square(p: int, i: int) -> float:
        rest = np.delete(images[:, p], i, axis=0)
        covariance = (1 - shrinkage) * np.cov(rest, rowvar=False) + base
        offset = images[i, p] - rest.mean(0)
        return float(offset @ np.linalg.solve(covariance, offset))

    left_out = np.array([np.mean([square(p, i) for i in range(count)]) for p in range(len(scales))])
    squares = np.array([np.trace(np.linalg.solve((1 - shrinkage) * c + base, c)) for c in own])
    distances = _normal_distance(squares, count, shrinkage)
    expected = np.sqrt((left_out / left_out.mean() + MINIMUM_SHARE) / (1 + MINIMUM_SHARE))
    np.testing.assert_allclose(distances, expected, rtol=0.06)
    seen = np.sqrt(
        (squares / squares.mean() + MINIMUM_SHARE) / (1 + MINIMUM_SHARE)
    )  # what the images themselves would say
    assert np.abs(distances - expected).max() < 0.5 * np.abs(seen - expected).max()


def test_new_normal_images_are_as_far_at_each_position() -> None:
    generator, scales = np.random.default_rng(0), np.array([0.2, 1.0, 4.0])
    train, new = (generator.standard_normal((count, 1, 3, 6)) * scales[:, None] for count in (60, 200))
    sums = Sums()
    sums.add(train)
    plain, even = (
        np.sqrt(np.mean([np.square(Distance(sums.gaussian(0.5, 1e-3, normalised))(image)) for image in new], axis=0))[0]
        for normalised in (False, True)
    )
    assert plain.max() > 4 * plain.min()
    assert even[1:].max() < 1.2 * even[1:].min()
    assert even[0] < even[1]  # what is usual where hardly anything varies is kept from zero


@pytest.mark.parametrize("images", [np.ones((1, 2, 2, 3)), np.ones((5, 2, 2, 3))])
def test_without_variation_nothing_is_divided(images: np.ndarray) -> None:
    sums = Sums()
    sums.add(images)
    plain, normalised = (sums.gaussian(0.5, 1e-3, which).whitening for which in (False, True))
    np.testing.assert_array_equal(normalised, plain)
