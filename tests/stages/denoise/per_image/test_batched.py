"""The batched fit equals the fit of each image alone; failures stay with their image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.denoise.config import DenoiseConfig
from stages.denoise.per_image import batched, batched_equations
from stages.denoise.per_image.batched import solve_together
from stages.denoise.per_image.decomposition import Decomposition
from stages.denoise.per_image.least_squares import robust_weights, solve
from stages.types import UserError
from tests.reference.denoise_dense import bending
from tests.stages.denoise.synthetic import synthetic


def together(truths, config, **options):
    tokens, coords = np.stack([t.tokens for t in truths]), np.stack([t.coords for t in truths])
    names = [f"image {number}" for number in range(len(truths))]
    return solve_together(tokens, coords, tokens.shape[2:4], config, names, "cpu", **options)


def arrays(results: Decomposition):
    terms = (results.terms.schur, results.terms.right, results.terms.response) if results.terms else ()
    return [results.F.values, results.G, results.residual, *terms]


def assert_alike(results, expected, bound=1e-5, bound_r2=1e-3):
    assert isinstance(results, Decomposition)
    assert len(arrays(results)) == len(arrays(expected))
    for one, other in zip(arrays(results), arrays(expected), strict=True):
        assert one.shape == other.shape and one.dtype == other.dtype == np.float32
        assert np.linalg.norm(one - other) <= bound * np.linalg.norm(other) + 1e-6
    assert results.diagnostics.keys() == expected.diagnostics.keys()
    assert results.diagnostics["smoothness"] == expected.diagnostics["smoothness"]
    candidates = zip(results.diagnostics["candidates_r2"], expected.diagnostics["candidates_r2"], strict=True)
    for one, other in candidates:  # a candidate that fails entirely may have an R^2 far below 0
        assert one == pytest.approx(other, abs=bound_r2, rel=5 * bound_r2)
    assert results.diagnostics["held_out_r2"] == pytest.approx(expected.diagnostics["held_out_r2"], abs=bound_r2)
    assert results.diagnostics["outlier_share"] == pytest.approx(expected.diagnostics["outlier_share"])


def assert_equals_one_by_one(truths, config, **bounds):
    results = together(truths, config)
    assert len(results) == len(truths)
    for one, truth in zip(results, truths, strict=True):
        assert_alike(one, solve(truth.tokens, truth.coords, truth.tokens.shape[1:3], config), **bounds)
    return results


@pytest.mark.parametrize(
    ("grid", "options"),
    [
        ((6, 6), {}),
        ((3, 5), {"nodes_per_patch": 3, "artifact_ridge": 0.0}),
        ((5, 4), {"nodes_per_patch": 1, "passes": 1}),
        ((4, 4), {"passes": 2, "robust_constant": 2.0, "artifact_ridge": 5.0}),
        ((4, 4), {"held_out": 0, "smoothness": (0.05,), "passes": 5}),
        ((1, 3), {"nodes_per_patch": 1, "smoothness": (10.0, 0.01, 0.1), "held_out": 0.5}),
    ],
)
def test_it_equals_the_solver_for_one_image(grid, options):
    truths = [
        synthetic(grid=grid, channels=5, views=12, noise=0.05 * 3**seed, outliers=0.05, seed=seed) for seed in range(4)
    ]
    mirrored = truths[0].coords[:, 0, 0, 1] > truths[0].coords[:, 0, -1, 1]
    assert 0 < mirrored.sum() < 12
    config = DenoiseConfig(views=12, shared_artifact=True, **options)
    results = assert_equals_one_by_one(truths, config)
    if not options:
        assert len({one.diagnostics["smoothness"] for one in results}) > 1  # images of a group choose each their own
        assert all(one.diagnostics["outlier_share"] > 0.02 for one in results)


@settings(max_examples=15, deadline=None)
@given(
    height=st.integers(2, 5),
    width=st.integers(2, 5),
    r=st.integers(1, 3),
    views=st.integers(4, 9),
    ridge=st.sampled_from([0.1, 1.0]),
    seed=st.integers(0, 1000),
)
def test_it_equals_the_solver_for_one_image_on_any_grid(height, width, r, views, ridge, seed):
    truths = [synthetic(grid=(height, width), channels=2, views=views, noise=0.5, seed=seed + k) for k in range(2)]
    config = DenoiseConfig(
        views=views, nodes_per_patch=r, smoothness=(0.1,), held_out=0, artifact_ridge=ridge, passes=2
    )
    assert_equals_one_by_one(truths, config)


def test_many_channels_in_single_precision_choose_on_the_same_mixtures():
    truths = [synthetic(grid=(5, 5), channels=40, views=10, noise=0.5, seed=s, dtype=np.float32) for s in range(2)]
    assert_equals_one_by_one(truths, DenoiseConfig(views=10))


def test_work_in_small_chunks_and_groups_gives_the_same(monkeypatch):
    truths = [synthetic(views=12, noise=0.3, outliers=0.03, seed=seed) for seed in range(3)]
    config = DenoiseConfig(views=12)
    whole = together(truths, config)
    sizes = []
    group = batched._Group.from_tokens.__func__

    def counted(cls, tokens, *rest):
        sizes.append(len(tokens))
        return group(cls, tokens, *rest)

    monkeypatch.setattr(batched._Group, "from_tokens", classmethod(counted))
    image = batched._image_bytes((12, 6, 6, 8), (6, 6), config, 8)
    for one, other in zip(together(truths, config, memory_bytes=2 * image), whole, strict=True):
        assert_alike(one, other, 1e-7, 1e-9)
    together(truths, config, memory_bytes=1)
    assert sizes == [2, 1, 1, 1, 1]
    monkeypatch.setattr(batched_equations, "CHUNK", 5 * 8 * 6 * 13 * 8)  # 5 of 12 views
    for one, other in zip(together(truths, config), whole, strict=True):
        assert_alike(one, other, 1e-7, 1e-9)


def test_an_image_does_not_depend_on_its_neighbours_and_a_repeat_gives_the_same_bytes():
    truths = [synthetic(views=12, noise=0.3, outliers=0.03, seed=seed) for seed in range(5)]
    truths[3].tokens[:] *= 1e6
    config = DenoiseConfig(views=12, shared_artifact=True)
    five, again, alone = together(truths, config), together(truths, config), together(truths[:1], config)
    for one, other in zip(arrays(five[0]), arrays(alone[0]), strict=True):
        assert np.abs(one - other).max() <= 1e-9 + 2e-7 * np.abs(one).max()  # the last bit of float32
    for one, other in zip(five, again, strict=True):
        assert [a.tobytes() for a in arrays(one)] == [a.tobytes() for a in arrays(other)]
        assert one.diagnostics == other.diagnostics


def test_systems_of_neighbours_agree_in_double_precision(monkeypatch):
    """Before rounding to float32."""
    monkeypatch.setattr(torch.Tensor, "float", lambda tensor: tensor)
    truths = [synthetic(views=12, noise=0.3, outliers=0.03, seed=seed) for seed in range(3)]
    config = DenoiseConfig(views=12, shared_artifact=True)
    three, alone = together(truths, config), together(truths[1:2], config)
    assert three[1].G.dtype == np.float64
    for one, other in zip(arrays(three[1]), arrays(alone[0]), strict=True):
        assert np.abs(one - other).max() < 1e-9


def test_bad_images_come_back_as_the_errors_of_the_solver_and_spoil_no_other():
    truths = [synthetic(views=8, noise=0.3, seed=seed) for seed in range(4)]
    truths[0].tokens[3, 2, 1, 0] = np.nan
    truths[2].coords[:] = 0.3  # every token at one place
    config = DenoiseConfig(views=8, smoothness=(1e-6, 0.1))
    results = together(truths, config)
    for number in (0, 2):
        with pytest.raises(UserError) as expected:
            solve(truths[number].tokens, truths[number].coords, (6, 6), config, f"image {number}")
        assert isinstance(results[number], UserError)
        assert str(results[number]) == str(expected.value)
    for number in (1, 3):
        assert_alike(results[number], solve(truths[number].tokens, truths[number].coords, (6, 6), config))


@pytest.mark.parametrize("call", range(10))  # two a fit: the first, two candidates, two passes
def test_a_failure_at_any_fit_is_the_error_of_its_image_alone(monkeypatch, call):
    truths = [synthetic(views=8, noise=0.3, seed=seed) for seed in range(2)]
    config, calls, cholesky = DenoiseConfig(views=8, smoothness=(0.01, 0.1)), [], batched_equations._cholesky
    expected = together(truths, config)[1]

    def once(matrix):
        lower, failed = cholesky(matrix)
        calls.append(1)
        return lower, failed | torch.tensor([len(calls) == call + 1, False])

    monkeypatch.setattr(batched_equations, "_cholesky", once)
    results = together(truths, config)
    assert len(calls) == 10
    assert isinstance(results[0], UserError)
    assert_alike(results[1], expected, 1e-7, 1e-9)


def test_a_matrix_without_factor_gets_the_unit_matrix_and_leaves_the_others():
    matrices = torch.tensor([[[4.0, 2.0], [2.0, 5.0]], [[1.0, 3.0], [3.0, 1.0]], [[np.nan, 0.0], [0.0, 1.0]]])
    lower, failed = batched_equations._cholesky(matrices.double())
    assert failed.tolist() == [False, True, True]
    assert lower.tolist() == [[[2, 0], [1, 2]], [[1, 0], [0, 1]], [[1, 0], [0, 1]]]


@pytest.mark.parametrize("nodes", [(2, 2), (3, 2), (2, 5), (4, 3)])
def test_the_matrix_equals_its_sum_over_tokens(nodes):
    """Two columns of nodes too, where the neighbour on the right and that below on the left are equally far."""
    rng = np.random.default_rng(0)
    rows, columns = (
        batched_equations.hats(torch.from_numpy(rng.random((1, 4, k))), n) for k, n in zip((2, 3), nodes, strict=True)
    )
    weights = torch.from_numpy(rng.random((1, 4, 2, 3)))
    both = torch.einsum("vhi,vwj->vhwij", rows[0], columns[0]).reshape(24, -1)  # (V, h, w, ny, nx) -> (M, N)
    band = batched_equations._band(rows, columns, weights)
    matrix = batched_equations._assemble(band, batched_equations.bending_of(nodes, "cpu"), torch.tensor([0.3]).double())
    expected = both.T @ (weights.reshape(-1, 1) * both) + 0.3 * torch.from_numpy(bending(*nodes))
    assert torch.allclose(matrix[0], expected, rtol=1e-6)


def test_too_few_views_are_the_error_of_every_image():
    truths = [synthetic(views=4, seed=seed) for seed in range(2)]
    tokens, coords = np.stack([t.tokens[:2] for t in truths]), np.stack([t.coords[:2] for t in truths])
    results = solve_together(tokens, coords, (6, 6), DenoiseConfig(views=4), ["a", "b"], "cpu")
    assert [str(result)[:45] for result in results] == [
        f"{n}: 2 views with 1 held out leave 1 to fit, at" for n in "ab"
    ]


def test_constant_tokens_give_no_score_and_the_middle_candidate():
    truths = [synthetic(views=8, noise=0.3, seed=seed) for seed in range(2)]
    truths[0].tokens[:] = 3.0
    results = together(truths, DenoiseConfig(views=8, smoothness=(0.01, 5.0, 1.0)))
    assert results[0].diagnostics["candidates_r2"] == [None] * 3 and results[0].diagnostics["held_out_r2"] is None
    assert results[0].diagnostics["smoothness"] == 5.0
    assert results[1].diagnostics["held_out_r2"] > 0
    assert np.abs(results[0].F.values - 3).max() < 1e-5


def test_the_greatest_of_equal_candidates_is_chosen():
    scores = torch.tensor([[0.5, 0.7, 0.7], [0.7, 0.7, 0.5], [0.1, 0.2, 0.3]])
    varies = torch.tensor([True, True, False])
    values = torch.tensor([10.0, 0.1, 1.0])
    assert batched._best_candidates(values, scores, varies, 1).tolist() == [2, 0, 1]
    assert batched._best_candidates(values, scores[:, :0], varies, 1).tolist() == [1, 1, 1]


@pytest.mark.parametrize("count", [4, 5])
def test_robust_weights_equal_those_of_one_image(count):
    residual = np.random.default_rng(0).exponential(size=(3, count, 1, 1))
    residual[2] = 0
    weights = batched._robust_weights(torch.from_numpy(residual), 2.0).numpy()
    for one, expected in zip(weights, residual, strict=True):
        assert np.allclose(one, robust_weights(expected, 2.0), rtol=1e-14)


def test_coordinates_that_are_no_lattice_and_wrong_shapes_are_refused():
    truth = synthetic(views=6)
    for axis, place in ((0, (2, 3, 1)), (1, (4, 0, 2))):
        coords = truth.coords.copy()
        coords[place][axis] += 1e-3
        with pytest.raises(ValueError, match=r"not a lattice: .* differ by 0\.001"):
            solve_together(truth.tokens[None], coords[None], (6, 6), DenoiseConfig(views=6), ["a"], "cpu")
    with pytest.raises(ValueError, match="2 names do not fit"):
        solve_together(truth.tokens[None], truth.coords[None], (6, 6), DenoiseConfig(views=6), ["a", "b"], "cpu")
    with pytest.raises(ValueError, match="do not fit the grid"):
        solve_together(truth.tokens[None], truth.coords[None], (6, 5), DenoiseConfig(views=6), ["a"], "cpu")


def test_inputs_stay_as_they_are_and_no_images_give_no_results():
    truth = synthetic(views=6, noise=0.1, dtype=np.float32)
    tokens, coords = truth.tokens[None].copy(), truth.coords[None].copy()
    solve_together(tokens, coords, (6, 6), DenoiseConfig(views=6), ["a"], "cpu")
    assert (tokens[0] == truth.tokens).all() and (coords[0] == truth.coords).all()
    assert solve_together(tokens[:0], coords[:0], (6, 6), DenoiseConfig(views=6), [], "cpu") == []


def test_a_device_computes_as_the_cpu_does():
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    truths = [synthetic(views=12, noise=0.3, outliers=0.03, seed=seed) for seed in range(3)]
    config = DenoiseConfig(views=12, shared_artifact=True)
    tokens, coords = np.stack([t.tokens for t in truths]), np.stack([t.coords for t in truths])
    first, second = (solve_together(tokens, coords, (6, 6), config, list("abc"), "cuda") for _ in range(2))
    for one, other, here in zip(first, second, together(truths, config), strict=True):
        assert_alike(one, here, 1e-6, 1e-8)
        assert [a.tobytes() for a in arrays(one)] == [a.tobytes() for a in arrays(other)]
