"""Bilinear interpolation, bending energy, and the banded factorisation against dense matrices."""

from __future__ import annotations

import numpy as np
import pytest

from stages.denoise.per_image.banded import Layout, factorise
from stages.denoise.per_image.grid import BilinearField, bending_energy, corners, node_grid
from tests.reference.denoise_dense import bending


def test_bending_energy_by_hand_and_by_loops():
    bump = np.zeros((3, 3))
    bump[1, 1] = 1.0
    # fyy: one second difference -2 -> 4; fxx: 4; fxy: four mixed differences of 1, counted twice -> 8
    assert bump.ravel() @ bending_energy((3, 3)).toarray() @ bump.ravel() == pytest.approx(16)
    for nodes in ((3, 3), (4, 7), (6, 5)):
        assert np.allclose(bending_energy(nodes).toarray(), bending(*nodes))


def test_planes_bend_nothing():
    y, x = np.meshgrid(np.arange(5.0), np.arange(4.0), indexing="ij")
    plane = (1 + 2 * y - 3 * x).ravel()
    assert np.abs(bending_energy((5, 4)) @ plane).max() < 1e-12


def test_bilinear_field_gives_planes_exactly_borders_included():
    rng = np.random.default_rng(0)
    y, x = np.meshgrid(np.linspace(0, 1, 5), np.linspace(0, 1, 4), indexing="ij")
    field = BilinearField((1 + 2 * y - 3 * x)[..., None].astype(np.float32))
    coords = np.concatenate([rng.random((50, 2)), [[0, 0], [1, 1], [0, 1], [0.25, 1 / 3]]])
    assert np.allclose(field(coords)[:, 0], 1 + 2 * coords[:, 0] - 3 * coords[:, 1], atol=1e-6)


def test_corner_weights_by_hand():
    index, weight = corners(np.array([[0.25, 0.5]]), (3, 5))  # row 0.5, column 2 of 3 x 5 nodes
    assert index.tolist() == [[2, 3, 7, 8]]
    assert np.allclose(weight, [[0.5, 0, 0.5, 0]])
    assert node_grid((14, 7), 2) == (29, 15)


@pytest.mark.parametrize("nodes", [(4, 5), (5, 4), (3, 3), (7, 6)])
def test_block_factor_solves_like_a_dense_solver(nodes):
    rng = np.random.default_rng(1)
    energy = bending_energy(nodes)
    dense = energy.toarray() + np.eye(nodes[0] * nodes[1])
    layout = Layout.for_nodes(nodes)
    rows, columns = np.nonzero(dense)
    band = layout.assemble(layout.places(rows, columns), dense[rows, columns])
    layout.pad_diagonal(band)
    right = np.zeros((layout.padded, 3))
    right[: layout.unknowns] = rng.standard_normal((layout.unknowns, 3))
    factor = factorise(band)
    result = layout.strip(factor.backward(factor.forward(layout.blocked(right))))
    assert np.allclose(result, np.linalg.solve(dense, right[: layout.unknowns]), atol=1e-10)


def test_an_indefinite_matrix_is_refused():
    layout = Layout.for_nodes((4, 4))
    diagonal = np.arange(16)
    band = layout.assemble(layout.places(diagonal, diagonal), -np.ones(16))
    layout.pad_diagonal(band)
    with pytest.raises(np.linalg.LinAlgError):
        factorise(band)
