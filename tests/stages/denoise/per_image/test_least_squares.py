"""The least-squares fit against dense solutions, and the choice of lambda."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.denoise.config import DenoiseConfig
from stages.denoise.per_image.grid import node_grid
from stages.denoise.per_image.least_squares import robust_weights, solve
from stages.denoise.per_image.views import patch_centres
from stages.types import UserError
from tests.reference import denoise_dense
from tests.stages.denoise.synthetic import synthetic


def relative(result, true):
    return np.linalg.norm(result - true) / np.linalg.norm(true)


@pytest.mark.parametrize(
    ("grid", "r", "ridge"), [((4, 4), 2, 1.0), ((3, 5), 2, 0.0), ((5, 4), 1, 0.3), ((4, 3), 3, 2.0)]
)
def test_banded_solver_equals_the_dense_reference(grid, r, ridge):
    truth = synthetic(grid=grid, channels=3, views=9, noise=0.2, outliers=0.05)
    config = DenoiseConfig(
        views=9, nodes_per_patch=r, smoothness=(0.05,), held_out=0, artifact_ridge=ridge, robust_constant=3, passes=3
    )
    result = solve(truth.tokens, truth.coords, grid, config)
    nodes = node_grid(grid, r)
    content, artifact, residual = denoise_dense.solve(truth.tokens, truth.coords, nodes, 0.05, ridge, 3, 3)
    assert relative(result.F.values, content) < 1e-6
    assert relative(result.G, artifact) < 1e-6
    assert relative(result.residual, residual) < 1e-6


@settings(max_examples=20, deadline=None)
@given(
    height=st.integers(2, 5),
    width=st.integers(2, 5),
    r=st.integers(1, 3),
    smoothness=st.sampled_from([0.01, 1.0, 30.0]),
    seed=st.integers(0, 1000),
)
def test_one_pass_equals_the_dense_reference_on_any_grid(height, width, r, smoothness, seed):
    truth = synthetic(grid=(height, width), channels=2, views=6, noise=0.5, seed=seed)
    config = DenoiseConfig(views=6, nodes_per_patch=r, smoothness=(smoothness,), held_out=0, passes=1)
    result = solve(truth.tokens, truth.coords, (height, width), config)
    content, artifact, _ = denoise_dense.fit(
        truth.tokens, truth.coords, node_grid((height, width), r), smoothness, 1.0, np.ones(truth.tokens.shape[:3])
    )
    assert np.abs(result.F.values - content).max() < 1e-6
    assert np.abs(result.G - artifact).max() < 1e-6
    assert np.abs(result.G.mean((0, 1))).max() < 1e-6


def test_single_precision_agrees_with_double():
    truth = synthetic(noise=0.1, outliers=0.02)
    config = DenoiseConfig(views=24)
    double = solve(truth.tokens, truth.coords, (6, 6), config)
    single = solve(truth.tokens.astype(np.float32), truth.coords, (6, 6), config)
    assert relative(single.F.values, double.F.values) < 1e-5
    assert relative(single.G, double.G) < 1e-5


def test_known_content_and_artifact_are_recovered_under_noise_and_outliers():
    """A mean over V views has noise / sqrt(V), and G and F a spread of 0.7: twice that share for G, three times for F,
    whose corners hardly a crop shows (measured: 1.2 and 2.5 times)."""
    views, noise = 48, 0.1
    truth = synthetic(grid=(8, 8), channels=16, views=views, noise=noise, outliers=0.02, waves=1.0)
    result = solve(truth.tokens, truth.coords, (8, 8), DenoiseConfig(views=views, artifact_ridge=0))
    share = noise / np.sqrt(views) / 0.7
    assert relative(result.G, truth.artifact) < 2 * share
    assert relative(result.F(truth.coords[0]), truth.content[0]) < 3 * share
    assert result.residual[truth.outlier].min() > result.residual[~truth.outlier].max()
    assert result.diagnostics["outlier_share"] == pytest.approx(truth.outlier.mean())


def test_noiseless_tokens_are_recovered_better_with_more_nodes():
    truth = synthetic(views=40, waves=1.0)
    errors = []
    for r in (1, 2, 4):
        config = DenoiseConfig(views=40, nodes_per_patch=r, smoothness=(1e-4,), held_out=0, artifact_ridge=0, passes=1)
        errors.append(relative(solve(truth.tokens, truth.coords, (6, 6), config).F(truth.coords[0]), truth.content[0]))
    assert errors[0] > 2 * errors[1] > 4 * errors[2], errors
    assert errors[2] < 5e-3, errors


def test_edge_to_edge_coordinates_are_clearly_worse_than_true_centres():
    truth = synthetic(grid=(8, 8), views=32, noise=0.02, waves=2.0)
    low, high = truth.coords[:, :1, :1], truth.coords[:, -1:, -1:]
    wrong = low + (truth.coords - low) * 8 / 7 - (high - low) / 14  # the crop's border to border
    assert wrong.min() >= 0
    config = DenoiseConfig(views=32)
    right_r2 = solve(truth.tokens, truth.coords, (8, 8), config).diagnostics["held_out_r2"]
    wrong_r2 = solve(truth.tokens, np.clip(wrong, 0, 1), (8, 8), config).diagnostics["held_out_r2"]
    assert 1 - right_r2 < 0.5 * (1 - wrong_r2)


def test_coordinates_of_mirrored_views_matter():
    truth = synthetic(views=24, noise=0.02)
    mirrored = truth.coords[:, 0, 0, 1] > truth.coords[:, 0, -1, 1]
    assert 6 <= mirrored.sum() <= 18
    forgotten = truth.coords.copy()
    forgotten[mirrored] = forgotten[mirrored][:, :, ::-1]
    config = DenoiseConfig(views=24)
    handled = solve(truth.tokens, truth.coords, (6, 6), config)
    wrong = solve(truth.tokens, forgotten, (6, 6), config)
    assert relative(handled.G, truth.artifact) < 0.07 < 0.2 < relative(wrong.G, truth.artifact)


def test_robust_weights_by_hand_and_without_residual():
    weights = robust_weights(np.array([[0.0, 1.0, 1.0, 2.0, 9.0]]), 2.0)  # k = 2
    assert np.allclose(weights, [[1, 0.8, 0.8, 0.5, 4 / 85]])
    assert (robust_weights(np.array([0.0, 0.0, 0.0, 5.0]), 2.0) == 1).all()


def test_robust_constant_and_passes_decide_how_outliers_count():
    truth = synthetic(views=24, noise=0.1, outliers=0.05)

    def error(**options):
        result = solve(truth.tokens, truth.coords, (6, 6), DenoiseConfig(views=24, **options))
        return relative(result.F(truth.coords[0]), truth.content[0])

    assert error(passes=1) > 3 * error(passes=3)
    assert error(robust_constant=1e5) > 3 * error(robust_constant=6)
    assert error(passes=2) != error(passes=3)


def test_artifact_ridge_shrinks_the_artifact():
    truth = synthetic(noise=0.1)
    norms = [
        np.linalg.norm(solve(truth.tokens, truth.coords, (6, 6), DenoiseConfig(views=24, artifact_ridge=mu)).G)
        for mu in (0.0, 10.0, 1000.0)
    ]
    assert norms[0] > 1.1 * norms[1] > 5 * norms[2]


def test_lambda_is_the_candidate_that_predicts_held_out_views_best_by_the_dense_reference():
    truth = synthetic(grid=(4, 4), channels=4, views=10, noise=0.6)
    candidates = (1e-3, 0.1, 10.0, 1000.0)
    config = DenoiseConfig(views=10, smoothness=candidates, held_out=0.3, passes=1)
    result = solve(truth.tokens, truth.coords, (4, 4), config)
    weights = np.ones(truth.tokens.shape[:3])
    scores = [
        denoise_dense.held_out_r2(truth.tokens, truth.coords, (9, 9), value, 1.0, weights, held=3)
        for value in candidates
    ]
    assert result.diagnostics["candidates_r2"] == pytest.approx(scores, abs=1e-3)
    assert result.diagnostics["smoothness"] == candidates[int(np.argmax(scores))] == 0.1  # not where the search starts
    content, _, _ = denoise_dense.fit(truth.tokens, truth.coords, (9, 9), 0.1, 1.0, weights)
    assert relative(result.F.values, content) < 1e-6  # the final fit is with the chosen one, on all views


def test_noisier_tokens_choose_a_smoother_field_and_held_out_share_counts():
    candidates = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
    chosen = []
    for noise in (0.01, 1.0):
        truth = synthetic(noise=noise, waves=2.0)
        chosen.append(
            solve(truth.tokens, truth.coords, (6, 6), DenoiseConfig(views=24, smoothness=candidates)).diagnostics
        )
    assert chosen[0]["smoothness"] < chosen[1]["smoothness"]
    other = DenoiseConfig(views=24, smoothness=candidates, held_out=0.5)
    assert solve(truth.tokens, truth.coords, (6, 6), other).diagnostics["held_out_r2"] != chosen[1]["held_out_r2"]
    none = DenoiseConfig(views=24, smoothness=(0.1,), held_out=0)
    assert solve(truth.tokens, truth.coords, (6, 6), none).diagnostics["held_out_r2"] is None


def test_many_channels_choose_like_all_of_them():
    """Above 32 channels lambda is chosen on mixtures; their R^2 is near that of all channels."""
    truth = synthetic(grid=(5, 5), channels=80, views=12, noise=0.5)
    result = solve(
        truth.tokens, truth.coords, (5, 5), DenoiseConfig(views=12, smoothness=(0.1,), held_out=0.25, passes=1)
    )
    exact = denoise_dense.held_out_r2(
        truth.tokens, truth.coords, (11, 11), 0.1, 1.0, np.ones(truth.tokens.shape[:3]), held=3
    )
    assert result.diagnostics["held_out_r2"] == pytest.approx(exact, abs=0.05)


def test_same_arguments_same_bytes_and_inputs_untouched():
    truth = synthetic(noise=0.1, dtype=np.float32)
    before = truth.tokens.copy()
    first, second = (solve(truth.tokens, truth.coords, (6, 6), DenoiseConfig(views=24)) for _ in range(2))
    assert first.F.values.tobytes() == second.F.values.tobytes() and first.G.tobytes() == second.G.tobytes()
    assert (truth.tokens == before).all()


def test_constant_tokens_give_themselves_and_no_artifact():
    truth = synthetic(views=8)
    tokens = np.full_like(truth.tokens, 3.0, dtype=np.float32)
    result = solve(tokens, truth.coords, (6, 6), DenoiseConfig(views=8))
    assert np.abs(result.F(patch_centres((6, 6))) - 3).max() < 1e-4 and np.abs(result.G).max() < 1e-4
    assert result.diagnostics["held_out_r2"] is None


def test_pure_artifact_is_all_artifact():
    truth = synthetic(views=12)
    tokens = np.broadcast_to(truth.artifact + 5.0, truth.tokens.shape).copy()
    result = solve(tokens, truth.coords, (6, 6), DenoiseConfig(views=12, artifact_ridge=0))
    assert np.abs(result.G - truth.artifact).max() < 1e-4
    assert np.abs(result.F(truth.coords) - 5.0).max() < 1e-4


def test_nan_tokens_are_refused_with_image_count_and_view():
    truth = synthetic(views=8)
    truth.tokens[3, 2, 1, 0], truth.tokens[5, 0, 0] = np.nan, np.inf
    with pytest.raises(UserError, match=r"image abc: 2 of 288 tokens are NaN or infinite \(first in view 3\)"):
        solve(truth.tokens, truth.coords, (6, 6), DenoiseConfig(views=8), "image abc")


def test_too_few_views_are_refused():
    truth = synthetic(views=4)
    with pytest.raises(UserError, match="2 views with 1 held out leave 1 to fit, at least 2"):
        solve(truth.tokens[:2], truth.coords[:2], (6, 6), DenoiseConfig(views=4))


def test_wrong_shapes_and_coordinates_are_programming_errors():
    truth = synthetic(views=4)
    with pytest.raises(ValueError, match="do not fit the grid"):
        solve(truth.tokens, truth.coords, (6, 5), DenoiseConfig(views=4))
    with pytest.raises(ValueError, match="not within"):
        solve(truth.tokens, truth.coords + 0.5, (6, 6), DenoiseConfig(views=4))
