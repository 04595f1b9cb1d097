"""The detector as a whole: same bytes for any batch; resuming; every parameter; error messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages.detectors.ear import fitting, scoring
from stages.detectors.ear.config import EarConfig
from stages.detectors.ear.detector import fit, needs, score
from stages.detectors.ear.unet import UNet
from stages.detectors.shared.restoration_config import RestorationConfig
from stages.training import Session
from stages.types import Fitted, Samples, ScoreMap, UserError
from tests.stages.detectors.ear.tiny import DEFECT, config, samples

TRAIN, VALIDATION = samples(8, 0), samples(3, 1)


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    return fit(TRAIN, VALIDATION, config(), 0, Session())


def _scored(fitted: Fitted, test: Samples, **changes: Any) -> list[ScoreMap]:
    return list(score(fitted, test, config(**changes), "cpu"))


def _same(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(
        a[name].dtype == b[name].dtype and np.array_equal(a[name], b[name]) for name in a
    )


def _same_score(a: ScoreMap, b: ScoreMap) -> bool:
    maps = np.array_equal(a.anomaly_map, b.anomaly_map) and a.image_score == b.image_score
    return maps and a.extras == b.extras and _same(a.pictures, b.pictures)


def test_same_arguments_same_bytes_and_no_trace_in_the_global_generator(fitted: Fitted) -> None:
    torch.manual_seed(123)
    before = torch.get_rng_state()
    again = fit(TRAIN, VALIDATION, config(), 0, Session())
    assert torch.equal(before, torch.get_rng_state())
    assert _same(fitted.arrays, again.arrays)
    assert fitted.info == again.info
    assert set(fitted.metrics["mosaic_curve"]) == {"2", "4"}
    assert fitted.metrics["mosaic"] == fitted.info["scale"]
    assert fitted.metrics == again.metrics
    assert not _same(fitted.arrays, fit(TRAIN, VALIDATION, config(), 1, Session()).arrays)


def test_an_interrupted_training_goes_on_to_the_same_bytes(fitted: Fitted, tmp_path: Path) -> None:
    def stop(epoch: int, values: Mapping[str, float]) -> None:
        if epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(TRAIN, VALIDATION, config(), 0, Session(checkpoint=tmp_path, on_epoch=stop))
    seen: list[int] = []
    resumed = fit(TRAIN, VALIDATION, config(), 0, Session(tmp_path, lambda epoch, values: seen.append(epoch)))
    assert (tmp_path / "last.ckpt").is_file()
    assert seen == [0, 1, 2]
    assert _same(fitted.arrays, resumed.arrays)
    assert fitted.metrics == resumed.metrics


def test_an_image_scores_the_same_alone_in_any_order_and_any_batch(
    fitted: Fitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = samples(5, 2)
    whole = _scored(fitted, test)
    monkeypatch.setattr(scoring, "_READ", 2)
    turned = _scored(fitted, test.take([4, 3, 2, 1, 0]))[::-1]
    alone = [_scored(fitted, test.take([i]))[0] for i in range(5)]
    for a, b, c in zip(whole, turned, alone, strict=True):
        assert _same_score(a, b)
        assert _same_score(a, c)


def test_an_image_scores_the_same_with_any_number_of_threads(fitted: Fitted) -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        several = _scored(fitted, samples(2, 2))
        assert torch.get_num_threads() == 3
        torch.set_num_threads(1)
        assert all(_same_score(a, b) for a, b in zip(several, _scored(fitted, samples(2, 2)), strict=True))
    finally:
        torch.set_num_threads(threads)


def test_the_defect_is_cut_and_stands_out(fitted: Fitted) -> None:
    normal, defective = _scored(fitted, samples(4, 3)), _scored(fitted, samples(4, 4, defective=True))
    assert min(s.image_score for s in defective) > max(s.image_score for s in normal)
    for s in defective:
        assert s.anomaly_map.shape == (16, 16)
        assert s.anomaly_map.dtype == np.float32
        assert s.anomaly_map[DEFECT, DEFECT].mean() > s.anomaly_map[:2].mean()
        for kind in ("attention", "rarity_raw", "rarity_clean"):
            mask = s.pictures[f"mask_{kind}"]
            assert mask.dtype == np.float16
            assert mask.sum() == 64  # a quarter of 16 x 16, whatever the kind
            assert mask[DEFECT, DEFECT].sum() >= 48
        assert np.array_equal(s.pictures["mask"], s.pictures["mask_rarity_raw"])
        assert s.pictures["restoration"].shape == (16, 16, 3)
        assert s.pictures["restoration"].dtype == np.uint8


def test_scores_follow_from_the_map_and_names_are_the_same_for_each_image(fitted: Fitted) -> None:
    for s in _scored(fitted, samples(3, 5), top_fraction=0.02):
        highest = np.sort(s.anomaly_map, axis=None)[-5:]  # 2 % of 256 pixels
        assert s.image_score == pytest.approx(highest.mean())
        assert s.extras["score_rarity_raw"] == s.extras["msgms"] == s.image_score
        assert (s.extras["max"], s.extras["mean"]) == (
            s.anomaly_map.max(),
            pytest.approx(s.anomaly_map.mean(), rel=1e-4),
        )
        kinds = ["score_attention", "score_rarity_raw", "score_rarity_clean"]
        assert list(s.extras) == ["ssim", "msgms", *kinds, "max", "mean"]


def test_the_ways_to_compare_share_one_training_and_report_each_other(fitted: Fitted) -> None:
    small = samples(3, 5)
    pixels, other = _scored(fitted, small), _scored(fitted, small, compare="ssim")
    for a, b in zip(pixels, other, strict=True):
        assert (a.image_score, b.image_score) == (a.extras["msgms"], a.extras["ssim"])
        assert b.extras["score_rarity_raw"] == b.image_score
        assert not np.array_equal(a.anomaly_map, b.anomaly_map)


def test_the_deployed_score_does_not_depend_on_the_comparison(fitted: Fitted) -> None:
    alone = fit(TRAIN, VALIDATION, config(compare_masks=False), 0, Session())
    test = samples(3, 2)
    for a, b in zip(_scored(fitted, test), _scored(alone, test, compare_masks=False), strict=True):
        assert np.array_equal(a.anomaly_map, b.anomaly_map)
        assert set(b.extras) == {"ssim", "msgms", "score_rarity_raw", "max", "mean"}
        assert set(b.pictures) == {"mask", "mask_rarity_raw", "restoration"}
    assert set(alone.metrics["masks_left_out"]) == {"attention", "rarity_clean"}


def test_one_forward_pass_an_image_and_one_for_each_mask_that_is_compared(
    fitted: Fitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes, forward = list[int](), UNet.forward

    def counted(self: UNet, x: torch.Tensor) -> torch.Tensor:
        passes.append(len(x))
        return forward(self, x)

    monkeypatch.setattr(UNet, "forward", counted)
    _scored(fitted, samples(3, 2), compare_masks=False)
    assert passes == [1] * 3
    _scored(fitted, samples(3, 2))
    assert passes == [1] * (3 + 9)


def test_needs_only_what_it_reads() -> None:
    assert needs(config()) == {"raw", "clean", "attention"}
    assert needs(config(compare_masks=False)) == {"raw"}
    assert needs(config(compare_masks=False, space="tokens")) == {"raw", "imagenet"}
    assert needs(config(compare_masks=False, space="tokens", features="clean")) == {"raw", "clean"}
    assert needs(config(compare_masks=False, mask="attention")) == {"attention"}
    assert needs(config(compare_masks=False, mask="rarity_clean")) == {"clean"}


def test_without_class_attention_rarity_works_and_attention_says_what_to_do() -> None:
    train, validation = replace(TRAIN, attention=None), replace(VALIDATION, attention=None)
    fitted = fit(train, validation, config(epochs=1), 0, Session())
    assert fitted.metrics["masks_left_out"] == {"attention": "the backbone has no class token"}
    (result,) = score(fitted, replace(samples(1, 2), attention=None), config(epochs=1), "cpu")
    assert "score_attention" not in result.extras
    assert "mask_attention" not in result.pictures
    with pytest.raises(UserError, match=r"ear\.mask.*'attention'.*backbone.*rarity_raw"):
        fit(train, validation, config(mask="attention"), 0, Session())


def test_one_training_and_one_validation_image_are_enough() -> None:
    fitted = fit(TRAIN.take([0]), VALIDATION.take([0]), config(epochs=1), 0, Session())
    (result,) = _scored(fitted, samples(1, 2), epochs=1)
    assert np.isfinite(result.anomaly_map).all()


CHANGES: dict[str, Any] = {
    "image_side": 32,
    "width": 6,
    "depth": 2,
    "mask": "attention",
    "compare_masks": False,
    "mask_fraction": 0.4,
    "neighbours": 7,
    "memory_size": 20,
    "hint": "none",
    "mosaic_scales": (2, 8),
    "hint_tolerance": 1.0,
    "random_mask_share": 0.0,
    "gms_weight": 1.0,
    "ssim_weight": 1.0,
    "epochs": 2,
    "batch": 3,
    "lr": 1e-2,
    "patience": 1,
    "spread_floor": 2.0,
    "smooth_sigma": 0.5,
    "top_fraction": 0.2,
}


def test_the_table_of_changes_names_every_parameter() -> None:
    # those of tokens: test_tokens.py
    assert CHANGES.keys() | RestorationConfig.model_fields.keys() == EarConfig.model_fields.keys()


@pytest.mark.parametrize("name", sorted(CHANGES.keys() - {"image_side", "patience", "hint_tolerance"}))
def test_every_parameter_changes_something(fitted: Fitted, name: str) -> None:
    changes = {name: CHANGES[name]}
    test = samples(2, 2)
    only_score = name in ("spread_floor", "smooth_sigma", "top_fraction")
    other = fitted if only_score else fit(TRAIN, VALIDATION, config(**changes), 0, Session())
    before, after = _scored(fitted, test), _scored(other, test, **changes)
    assert not all(_same_score(a, b) for a, b in zip(before, after, strict=True))


def test_tolerance_decides_the_mosaic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "scale_errors", lambda *_: {2: 0.1, 4: 0.16})
    train, validation = TRAIN.take([0, 1]), VALIDATION.take([0])
    scales = [
        fit(train, validation, config(epochs=1, hint_tolerance=tolerance), 0, Session()).info["scale"]
        for tolerance in (0.5, 1.0)
    ]
    assert scales == [2, 4]


def test_patience_stops_a_training_that_no_longer_gains() -> None:
    runs = [fit(TRAIN, VALIDATION, config(epochs=9, lr=0.5, patience=patience), 0, Session()) for patience in (1, 100)]
    assert runs[0].metrics["epochs"] < runs[1].metrics["epochs"] == 9


def test_maps_are_as_large_as_image_side() -> None:
    def doubled(part: Samples) -> Samples:
        return replace(part, images=part.images[:].repeat(2, 1).repeat(2, 2))

    setup = config(image_side=32, epochs=1)
    fitted = fit(doubled(TRAIN), doubled(VALIDATION), setup, 0, Session())
    (result,) = score(fitted, doubled(samples(1, 2)), setup, "cpu")
    assert result.anomaly_map.shape == result.pictures["mask"].shape == (32, 32)
    assert result.pictures["mask"].sum() == 256
