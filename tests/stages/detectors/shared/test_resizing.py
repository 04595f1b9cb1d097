"""Images and pixels between the two sides, by hand."""

from __future__ import annotations

import numpy as np
import torch

from stages.detectors.shared.resizing import cell_shares, enlarge_images, reduce_images, to_bytes


def test_the_share_of_a_cell_that_pixels_cover() -> None:
    np.testing.assert_allclose(cell_shares(3, 2), [[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]], rtol=1e-6)
    np.testing.assert_allclose(cell_shares(4, 2), [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]])
    np.testing.assert_allclose(cell_shares(2, 3), [[1, 0], [0.5, 0.5], [0, 1]], atol=1e-6)


def test_the_network_sees_means_of_squares_of_pixels() -> None:
    image = np.zeros((1, 4, 4, 3), np.uint8)
    image[0, :2, :2, 0] = [[1, 2], [3, 4]]  # 2.5: up
    image[0, 2:, :2, 0] = [[1, 1], [1, 2]]  # 1.25
    image[0, 2:, 2:, 2] = 255
    small = reduce_images(image, 2)
    np.testing.assert_array_equal(small[0, ..., 0], [[3, 0], [1, 0]])
    np.testing.assert_array_equal(small[0, ..., 2], [[0, 0], [0, 255]])
    many = np.random.default_rng(0).integers(0, 256, (19, 6, 6, 3), dtype=np.uint8)  # more than one batch
    expected = many.reshape(19, 2, 3, 2, 3, 3).mean((2, 4))
    np.testing.assert_allclose(reduce_images(many, 2), expected, atol=0.5 + 1e-9)
    np.testing.assert_array_equal(reduce_images(many, 6), many)


def test_restorations_become_bytes_and_are_enlarged() -> None:
    restoration = torch.tensor([[[0.0, 0.5]], [[1.0, 1.2]], [[-0.1, 0.25]]])  # (3, 1, 2)
    np.testing.assert_array_equal(to_bytes(restoration), [[[0, 255, 0], [128, 255, 64]]])
    row = np.array([0, 100], np.uint8).repeat(6).reshape(1, 1, 2, 6)[..., :3].repeat(2, 1)  # (1, 2, 2, 3)
    np.testing.assert_array_equal(enlarge_images(row, 4)[0, 0, :, 0], [0, 25, 75, 100])
