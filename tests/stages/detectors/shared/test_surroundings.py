"""The prediction of a cell from the cells around it: by hand, with a defect, and with a shift of the whole image."""

from __future__ import annotations

import numpy as np
import pytest

from stages.detectors.shared.surroundings import FITTED_ON, RIDGE, evenly_spaced, fit, neighbour_features, residual


def _textured(count: int, seed: int) -> np.ndarray:
    """(count, 12, 12, 3): a level of each image, and noise."""
    generator = np.random.default_rng(seed)
    level = generator.normal(0, 5, (count, 1, 1, 3))
    return (level + generator.normal(0, 0.5, (count, 12, 12, 3))).astype(np.float32)


def test_neighbours_by_hand() -> None:
    plane = np.arange(12, dtype=np.float32).reshape(3, 4, 1)
    neighbours = neighbour_features(plane, 1)
    np.testing.assert_array_equal(neighbours[1, 1], [0, 1, 2, 4, 6, 8, 9, 10])
    np.testing.assert_array_equal(neighbours[0, 0], [0, 0, 1, 0, 1, 4, 4, 5])  # beyond the border: the cells on it
    np.testing.assert_array_equal(neighbour_features(plane, 2)[2, 3], [1, 3, 3, 9, 11, 9, 11, 11])


def test_a_shift_of_the_image_is_subtracted_and_a_defect_stays() -> None:
    prediction = fit(_textured(40, 0), 2)
    image = _textured(1, 1)[0]
    plain = residual(image, prediction, 2)
    inner = np.s_[2:-2, 2:-2]
    shifted = residual(image + np.float32(8), prediction, 2)
    assert np.abs(shifted - plain)[inner].max() < 0.8  # a tenth of the shift
    defect = image.copy()
    defect[5:7, 5:7] += 4
    np.testing.assert_allclose(residual(defect, prediction, 2)[5:7, 5:7] - plain[5:7, 5:7], 4, atol=1e-5)


def test_the_fit_is_ridge_regression_on_what_is_not_the_places_mean() -> None:
    features = _textured(9, 0)
    rows = np.concatenate([neighbour_features(image, 3).reshape(-1, 24) for image in features - features.mean(0)])
    wanted = (features - features.mean(0)).reshape(-1, 3)
    gram = rows.T @ rows
    expected = np.linalg.solve(gram + np.diag(RIDGE * np.diagonal(gram)), rows.T @ wanted)
    np.testing.assert_allclose(fit(features, 3), expected, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("count", [1, 2, FITTED_ON, 1000])
def test_evenly_spaced_indices_cover_the_whole_range(count: int) -> None:
    rows = evenly_spaced(count)
    assert len(rows) == min(count, FITTED_ON)
    assert rows[0] == 0 and rows[-1] == count - 1
    assert count <= 2 or np.ptp(np.diff(rows)) <= 1


def test_the_residual_of_identical_images_is_the_image() -> None:
    same = np.ones((3, 4, 4, 2), np.float32)
    np.testing.assert_array_equal(residual(same[0], fit(same, 1), 1), same[0])
