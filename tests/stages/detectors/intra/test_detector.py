"""InTra as a detector: training, scoring, and the effect of each parameter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages.detectors.intra import pixels, task
from stages.detectors.intra.config import IntraConfig
from stages.detectors.intra.detector import fit, needs, score
from stages.detectors.intra.pixels import pixel_map
from stages.detectors.intra.restore import inpaint, load
from stages.detectors.shared.pixel_maps import PIXEL_KINDS, PixelKind
from stages.detectors.shared.restoration_config import RestorationConfig
from stages.training import Session
from stages.types import Fitted, Samples, UserError
from tests.reference.similarity import msgms as msgms_map
from tests.reference.similarity import ssim as ssim_map
from tests.stages.detectors.intra.tiny import CANVAS, TINY

LONGER = TINY.model_copy(update={"windows_per_image": 32, "lr": 0.01, "width": 16, "epochs": 10, "patience": 10})


def _samples(count: int, seed: int, side: int = 16) -> Samples:
    """Stripes that lie a little differently in each image: soon learned, and turning the image matters."""
    rng = np.random.default_rng(seed)
    phase = rng.uniform(0, 0.7, (count, 1, 1, 1))
    wave = 128 + 40 * np.sin(np.arange(side)[None, None, :, None] + phase) + np.arange(side)[None, :, None, None]
    images = (wave + rng.normal(0, 1, (count, side, side, 3))).clip(0, 255).astype(np.uint8)
    return Samples(ids=[f"{seed}-{i}" for i in range(count)], images=images)


TRAIN, VALIDATION, TEST = _samples(6, 0), _samples(2, 1), _samples(3, 2)


def _fit(config: IntraConfig = TINY, seed: int = 0, session: Session | None = None) -> Fitted:
    return fit(TRAIN, VALIDATION, config, seed, session or Session())


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    return _fit()


def _bytes(arrays: Mapping[str, Any]) -> bytes:
    return b"".join(np.asarray(arrays[name]).tobytes() for name in sorted(arrays))


def _scored(result: Fitted, config: IntraConfig = TINY, samples: Samples = TEST) -> bytes:
    parts = []
    for image in score(result, samples, config, "cpu"):
        numbers = np.float64([image.image_score, *image.extras.values()])
        parts += [image.anomaly_map.tobytes(), numbers.tobytes(), image.pictures["restoration"].tobytes()]
    return b"".join(parts)


def test_it_reads_what_it_restores() -> None:
    assert needs(TINY) == frozenset()
    assert needs(IntraConfig()) == {"imagenet"}
    assert needs(IntraConfig(features="clean")) == {"clean"}


def test_same_arguments_same_bytes_and_another_seed_other_bytes(fitted: Fitted) -> None:
    again, other = _fit(), _fit(seed=1)
    assert _bytes(again.arrays) == _bytes(fitted.arrays)
    assert again.metrics == fitted.metrics
    assert _scored(again) == _scored(fitted)
    assert _bytes(other.arrays) != _bytes(fitted.arrays)


def test_a_killed_training_goes_on_to_the_same_weights(fitted: Fitted, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    seen: list[int] = []

    def kill(epoch: int, values: Mapping[str, float]) -> None:
        seen.append(epoch)
        if epoch == 2 and len(seen) == 3:
            raise Killed

    with pytest.raises(Killed):
        _fit(session=Session(checkpoint=tmp_path, on_epoch=kill))
    resumed = _fit(session=Session(checkpoint=tmp_path, on_epoch=kill))
    assert seen[3:] == [0, 1, 2]
    assert _bytes(resumed.arrays) == _bytes(fitted.arrays)


@pytest.fixture(scope="module")
def learned() -> Fitted:
    return _fit(LONGER)


def test_training_lowers_the_validation_loss_and_keeps_the_best(learned: Fitted) -> None:
    curve = learned.metrics["val_curve"]
    assert min(curve) < 0.3 * curve[0]
    assert learned.metrics["val_loss"] == min(curve) == curve[learned.metrics["best_epoch"]]
    windows = task.validation_batches(VALIDATION.images[:], CANVAS, LONGER, 0)
    trained = task.InpaintingTask(load(learned.arrays, LONGER, CANVAS), LONGER)
    with torch.no_grad():
        losses = [float(trained.loss(batch)["loss"]) for batch in windows]
    assert losses == pytest.approx([min(curve)], rel=1e-5)  # 12 windows: one batch


TRAINING_FIELDS: dict[str, dict[str, Any]] = {
    "patch_side": {"patch_side": 2},
    "window_side": {"window_side": 4},
    "blocks": {"blocks": 3},
    "width": {"width": 16},
    "heads": {"heads": 1},
    "mlp_ratio": {"mlp_ratio": 3},
    "windows_per_image": {"windows_per_image": 7},
    "epochs": {"epochs": 2},
    "batch": {"batch": 15},
    "lr": {"lr": 0.002},
    "schedule": {"schedule": "constant"},
    "warmup_steps": {"warmup_steps": 3},
    "alpha": {"alpha": 0.5},
    "beta": {"beta": 0.5},
    "rotations": {"rotations": True},
    "flips": {"flips": False},
    "smoothing_side": {"smoothing_side": 5},
}


@pytest.mark.parametrize("field", TRAINING_FIELDS)
def test_every_parameter_changes_the_fitted_model(field: str, fitted: Fitted) -> None:
    changed = _fit(TINY.model_copy(update=TRAINING_FIELDS[field]))
    assert _bytes(changed.arrays) != _bytes(fitted.arrays)


def test_the_other_parameters_change_something(fitted: Fitted, monkeypatch: pytest.MonkeyPatch) -> None:
    # with a rate far too high the validation loss rises, and patience decides when training ends
    wild = {"lr": 1.0, "epochs": 8, "schedule": "constant", "warmup_steps": 0}
    short = _fit(TINY.model_copy(update=wild | {"patience": 1}))
    long = _fit(TINY.model_copy(update=wild | {"patience": 3}))
    assert short.metrics["epochs"] < long.metrics["epochs"]
    more = _fit(TINY.model_copy(update={"validation_windows": 7}))
    assert more.metrics["val_curve"] != fitted.metrics["val_curve"]
    sizes: list[int] = []
    network = load(fitted.arrays, TINY, CANVAS)
    network.register_forward_pre_hook(lambda module, arguments: sizes.append(len(arguments[0])))
    inpaint(network, TEST.images[0], CANVAS, TINY, "cpu")
    inpaint(network, TEST.images[0], CANVAS, TINY.model_copy(update={"inference_windows": 6}), "cpu")
    assert sizes == [16, 6, 6, 4]
    tested = TRAINING_FIELDS.keys() | {"image_side", "patience", "validation_windows", "inference_windows"}
    # image_side: see the test of a wrong side; those of tokens: test_tokens.py
    assert tested | {"patch_cells"} | RestorationConfig.model_fields.keys() == IntraConfig.model_fields.keys()


def test_the_result_of_an_image_does_not_depend_on_those_beside_it(
    fitted: Fitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = _scored(fitted)
    alone = b"".join(_scored(fitted, samples=TEST.take([i])) for i in range(3))
    monkeypatch.setattr(pixels, "_READ", 2)
    assert together == alone == _scored(fitted)
    turned = TEST.take([2, 0, 1, 0])
    parts = [_scored(fitted, samples=TEST.take([i])) for i in (2, 0, 1, 0)]
    assert _scored(fitted, samples=turned) == b"".join(parts)


def test_scores_by_their_definition(fitted: Fitted) -> None:
    network = load(fitted.arrays, TINY, CANVAS)
    for image, result in zip(TEST.images[:], score(fitted, TEST, TINY, "cpu"), strict=True):
        restoration = inpaint(network, image, CANVAS, TINY, "cpu")
        differences = {
            kind: pixel_map(torch.from_numpy(image).float() / 255, restoration, kind, 3).numpy() for kind in PIXEL_KINDS
        }
        expected = (differences["msgms"] - fitted.arrays["msgms.mean"]) ** 2
        variance = fitted.arrays["ssim.spread"] ** 2
        above = (differences["ssim"] - fitted.arrays["ssim.mean"]) / np.sqrt(variance + variance.mean())
        assert result.anomaly_map.shape == (16, 16)
        assert result.anomaly_map.dtype == np.float32
        assert np.allclose(result.anomaly_map, expected, atol=1e-7)
        assert result.image_score == expected.max()
        assert result.extras == pytest.approx({"msgms": expected.max(), "ssim": above.max()}, rel=1e-4)
        assert np.abs(result.pictures["restoration"] / 255 - restoration.numpy()).max() <= 0.5 / 255 + 1e-6


def test_the_ways_to_compare_share_one_training_and_report_each_other(fitted: Fitted) -> None:
    other = list(score(fitted, TEST, TINY.model_copy(update={"compare": "ssim"}), "cpu"))
    for a, b in zip(score(fitted, TEST, TINY, "cpu"), other, strict=True):
        assert (a.image_score, b.image_score) == (a.extras["msgms"], a.extras["ssim"])
        assert b.extras == a.extras
        assert np.array_equal(b.pictures["restoration"], a.pictures["restoration"])


def test_mean_and_spread_are_those_of_all_normal_images(fitted: Fitted) -> None:
    network = load(fitted.arrays, TINY, CANVAS)
    for kind in PIXEL_KINDS:
        maps = [
            pixel_map(
                torch.from_numpy(image).float() / 255, inpaint(network, image, CANVAS, TINY, "cpu"), kind, 3
            ).numpy()
            for image in (*TRAIN.images[:], *VALIDATION.images[:])
        ]
        assert np.allclose(fitted.arrays[f"{kind}.mean"], np.mean(maps, axis=0), atol=1e-6)
        assert np.allclose(fitted.arrays[f"{kind}.spread"], np.std(maps, axis=0), atol=1e-5)


@pytest.mark.parametrize(("kind", "slow"), [("msgms", msgms_map), ("ssim", ssim_map)])
def test_the_pixel_map_against_a_slow_one(kind: PixelKind, slow: Callable[..., np.ndarray]) -> None:
    a, b = np.random.default_rng(0).random((2, 8, 8, 3))
    unlike = 1 - slow(a.transpose(2, 0, 1), b.transpose(2, 0, 1))
    expected = np.zeros((8, 8))
    for y in range(8):
        for x in range(8):
            expected[y, x] = unlike[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3].mean()
    assert np.allclose(pixel_map(torch.from_numpy(a), torch.from_numpy(b), kind, 5).numpy(), expected, atol=1e-6)


def test_a_pasted_defect_stands_out_where_it_is(learned: Fitted) -> None:
    damaged = TEST.images[:].copy()
    damaged[:, 5:8, 9:12] = 0
    good = list(score(learned, TEST, LONGER, "cpu"))
    bad = list(score(learned, Samples(ids=TEST.ids, images=damaged), LONGER, "cpu"))
    assert min(m.image_score for m in bad) > max(m.image_score for m in good)
    for result in bad:
        y, x = np.unravel_index(result.anomaly_map.argmax(), (16, 16))
        assert 3 <= y <= 9
        assert 7 <= x <= 13


def test_images_of_another_side_are_refused(fitted: Fitted) -> None:
    wrong = _samples(1, 0, side=20)
    for call in (
        lambda: fit(wrong, VALIDATION, TINY, 0, Session()),
        lambda: fit(TRAIN, wrong, TINY, 0, Session()),
        lambda: list(score(fitted, wrong, TINY, "cpu")),
    ):
        with pytest.raises(UserError, match=r"20 x 20 x 3, but 16 x 16 x 3"):
            call()
