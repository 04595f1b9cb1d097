from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from stages.fusion import fusion
from stages.fusion.fusion import fit, fit_knots, fuse, held_out_quantiles, normalize
from stages.score.calibration import deployed_threshold, rejected
from stages.types import Fitted, ScoreMap, UserError


def test_rank_normalization_by_hand() -> None:
    knots = fit_knots(np.array([3.0, 1.0, 2.0, 2.0]))  # ranks: 1 -> 0.5, 2 -> 2 (the mean of 1.5 and 2.5), 3 -> 3.5
    np.testing.assert_allclose(knots, [[1, 2, 3], norm.ppf([0.125, 0.5, 0.875])], atol=1e-12)
    top = norm.ppf(0.875)
    # half way from 2 to 3; one unit above the last, as steep as from the median (2) to it; two below the first
    np.testing.assert_allclose(normalize(np.array([2.5, 4.0, -1.0]), knots), [top / 2, 2 * top, -3 * top])


@settings(max_examples=100, deadline=None)
@given(
    values=st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=40),
    probes=st.lists(st.floats(-1e7, 1e7, width=32), min_size=2, max_size=20),
)
def test_order_is_kept_and_everything_is_finite(values: list[float], probes: list[float]) -> None:
    quantiles = normalize(np.sort(np.array(probes)), fit_knots(np.array(values)))
    assert np.isfinite(quantiles).all()
    assert (np.diff(quantiles) >= -1e-9 * (1 + np.abs(quantiles[1:]))).all()  # interpolation rounds the last bits
    beyond = np.array([max(values) + 1, max(values) + 2])
    assert np.diff(normalize(beyond, fit_knots(np.array(values))))[0] > 0  # defects stay in order


def test_scale_and_offset_of_a_detector_do_not_matter() -> None:
    generator = np.random.default_rng(0)
    values, probes = generator.normal(size=60), generator.normal(size=20) * 4
    expected = normalize(probes, fit_knots(values))
    np.testing.assert_allclose(normalize(7 * probes - 3, fit_knots(7 * values - 3)), expected, atol=1e-9)


def test_many_scores_are_kept_as_few_knots(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=5000)
    whole = normalize(np.linspace(-5, 5, 50), fit_knots(values))
    assert fit_knots(values).shape[1] <= fusion.KNOTS
    monkeypatch.setattr(fusion, "KNOTS", 10_000)
    np.testing.assert_allclose(normalize(np.linspace(-5, 5, 50), fit_knots(values)), whole, atol=0.03)


def _fitted(count: int = 12) -> Fitted:
    generator = np.random.default_rng(1)
    scores = {"a": generator.normal(size=count), "b": 100 + 50 * generator.normal(size=count)}
    maps = {"a": generator.normal(size=(count, 4, 4)), "b": 9 + generator.normal(size=(count, 8, 8))}
    return fit(scores, maps, 64)


def test_score_and_map_are_means_of_normalized_values_and_each_member_can_be_left_out() -> None:
    fitted = _fitted()
    a, b = ScoreMap(np.full((4, 4), 2.0, np.float32), 3.0), ScoreMap(np.full((8, 8), 12.0, np.float32), 180.0)
    fused = fuse(fitted, {"a": a, "b": b})
    za, zb = (float(normalize(np.array(s), fitted.arrays[f"{n}.score"])) for n, s in (("a", 3.0), ("b", 180.0)))
    assert fused.image_score == pytest.approx((za + zb) / 2)
    assert fused.extras == pytest.approx({"without_a": zb, "without_b": za})
    assert fused.anomaly_map.shape == (8, 8)
    ma, mb = (float(normalize(np.array(v), fitted.arrays[f"{n}.map"])) for n, v in (("a", 2.0), ("b", 12.0)))
    np.testing.assert_allclose(fused.anomaly_map, (ma + mb) / 2, rtol=1e-6)


def test_map_pixels_bounds_the_knots_of_the_maps() -> None:
    maps = {"a": [np.arange(64.0).reshape(8, 8)]}
    assert fit({"a": np.array([1.0])}, maps, 16).arrays["a.map"].shape == (2, 16)
    assert fit({"a": np.array([1.0])}, maps, 64).arrays["a.map"].shape == (2, 64)


def test_without_validation_images_it_says_so() -> None:
    with pytest.raises(UserError, match="no good validation images"):
        fit({"a": np.zeros(0)}, {"a": []}, 16)


def test_each_validation_image_is_ranked_among_the_others() -> None:
    scores = np.random.default_rng(3).gamma(2, size=25)
    expected = [float(normalize(scores[i : i + 1], fit_knots(np.delete(scores, i)))[0]) for i in range(25)]
    assert held_out_quantiles(scores).tolist() == expected
    assert held_out_quantiles(scores[:1]).tolist() == [0.0]


@pytest.mark.parametrize(("count", "target"), [(19, 0.05), (39, 0.05), (9, 0.1)])
def test_the_threshold_of_the_fusion_keeps_its_promise(count: int, target: float) -> None:
    """Lines of three members whose scores are exchangeable: on average at most the target is rejected.

    With each validation image ranked among all, it is more.
    """
    generator = np.random.default_rng(count)
    held_out, among_all = [], []
    for _ in range(400):
        validation, new = generator.normal(size=(3, count)), generator.normal(size=(3, 200))
        knots = [fit_knots(values) for values in validation]
        fused = np.mean([normalize(values, knot) for values, knot in zip(new, knots, strict=True)], axis=0)
        for shares, scores in (
            (held_out, np.mean([held_out_quantiles(values) for values in validation], axis=0)),
            (among_all, np.mean([normalize(v, knot) for v, knot in zip(validation, knots, strict=True)], axis=0)),
        ):
            shares.append(rejected(fused, deployed_threshold(scores, target).value or 0.0).mean())
    error = 3 * np.std(held_out) / np.sqrt(len(held_out))
    assert np.mean(held_out) <= target + error
    assert np.mean(among_all) > target + error
