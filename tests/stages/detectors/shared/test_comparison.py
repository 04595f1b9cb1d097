"""Image against restoration in features: by the slow definition, and what each parameter does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from stages import lightning_loop
from stages.detectors.ear.restore import Recovery
from stages.detectors.interface import CompareConfig
from stages.detectors.intra.model import build
from stages.detectors.intra.task import InpaintingTask
from stages.detectors.registry import detector
from stages.detectors.shared import comparison, surroundings
from stages.detectors.shared.comparison import Comparison, ComparisonFitter, Restored
from stages.detectors.shared.resizing import enlarge_images
from stages.training import Session
from stages.types import UserError
from tests.reference.floors import gaussian_map
from tests.stages.detectors.ear.tiny import config as ear_config
from tests.stages.detectors.ear.tiny import samples as ear_samples
from tests.stages.detectors.intra.tiny import TINY
from tests.stages.detectors.padim.test_padim import extract


class Config(CompareConfig):
    image_side: int = 64


def _config(**changes: Any) -> Config:
    return Config(**{"compare_side": 64, "surroundings": 0, **changes})


def _pairs(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    images = generator.normal(120, 30, (count, 64, 64, 3)) + generator.normal(0, 20, (count, 4, 4, 3)).repeat(
        16, 1
    ).repeat(16, 2)
    restorations = 0.7 * images + 40 + generator.normal(0, 5, images.shape)
    return tuple(part.clip(0, 255).astype(np.uint8) for part in (images, restorations))  # type: ignore[return-value]


def _cuts(count: int, seed: int) -> np.ndarray:
    """(count, 64, 64), most of it seen."""
    return np.random.default_rng(seed).random((count, 8, 8)).repeat(8, 1).repeat(8, 2) < 0.3


def _maps(config: Config, test: Restored, counts: tuple[int, ...] = (40,), cut: bool = False) -> np.ndarray:
    """
    Args:
        counts: numbers of images that are added to the fit, one after the other.
    """
    images, restorations = _pairs(sum(counts), 0)
    cuts = _cuts(sum(counts), 0) if cut else None
    fitter, start = ComparisonFitter(extract, config), 0
    for count in counts:
        rows = slice(start, start + count)
        fitter.add(images[rows], restorations[rows], None if cuts is None else cuts[rows])
        start += count
    return np.stack(Comparison(fitter.arrays(), extract, config).maps(test))


@pytest.mark.parametrize("distance", [0, 1])
@pytest.mark.parametrize(("cut", "counts"), [(False, (40,)), (True, (40,)), (True, (25, 15))])
def test_the_map_is_the_distance_of_what_restoration_and_surroundings_do_not_predict(
    distance: int, cut: bool, counts: tuple[int, ...]
) -> None:
    (train, restored), (images, restorations) = _pairs(40, 0), _pairs(3, 1)
    first = counts[0]  # the prediction is fitted to them
    mean = extract(restored[:first]).astype(np.float64).mean(0)

    def inputs(images: np.ndarray, restorations: np.ndarray, cuts: np.ndarray) -> np.ndarray:
        features, told = extract(images).astype(np.float64), extract(restorations).astype(np.float64) - mean
        rows = np.zeros((len(images), 4, 4, 5 + 40 * distance))
        for n, y, x in np.ndindex(rows.shape[:3]):
            share = cuts[n, 16 * y : 16 * y + 16, 16 * x : 16 * x + 16].mean() if cut else 1
            near = [
                features[n, min(max(y + dy, 0), 3), min(max(x + dx, 0), 3)]
                for dy in (-1, 0, 1)
                for dx in (-1, 0, 1)
                if (dy or dx) and distance
            ]
            rows[n, y, x] = np.concatenate([*near, share * told[n, y, x]])
        return rows

    x, outputs = inputs(train, restored, _cuts(40, 0)), extract(train).astype(np.float64)
    x0, y0 = ((rows[:first] - rows[:first].mean(0)).reshape(-1, rows.shape[-1]) for rows in (x, outputs))
    # least squares with rows that stand for the ridge
    ridge = np.diag(np.sqrt(surroundings.RIDGE * (x0**2).sum(0)))
    prediction = np.linalg.lstsq(np.vstack([x0, ridge]), np.vstack([y0, np.zeros((len(ridge), 5))]), rcond=None)[0]
    test = Restored(images, restorations, _cuts(3, 1) if cut else None)
    planes = _maps(_config(surroundings=distance), test, counts, cut)
    residuals = extract(images) - inputs(images, restorations, _cuts(3, 1)) @ prediction
    for plane, residual in zip(planes, residuals, strict=True):
        constants = comparison.SHRINKAGE, comparison.RIDGE, comparison.SMOOTHING
        expected = gaussian_map(outputs - x @ prediction, residual, *constants, normalised=True)
        np.testing.assert_allclose(plane, expected, rtol=5e-3)


def test_a_restoration_that_says_something_makes_a_change_stand_out() -> None:
    images, restorations = _pairs(4, 1)
    changed = images.copy()
    changed[:, 20:28, 36:44] //= 2  # in cell (1, 2)
    before, after = (_maps(_config(), Restored(given, restorations)) for given in (images, changed))
    assert (after[:, 1, 2] > 1.5 * before[:, 1, 2]).all()


def test_an_image_gets_the_same_beside_others() -> None:
    images, restorations = _pairs(5, 1)
    whole = _maps(_config(surroundings=1), Restored(images, restorations))
    for i in range(5):
        alone = Restored(images[i : i + 1], restorations[i : i + 1])
        assert np.array_equal(_maps(_config(surroundings=1), alone)[0], whole[i])


def test_one_image_and_equal_images_do_not_break_it() -> None:
    config = _config(surroundings=1)
    assert np.isfinite(_maps(config, Restored(*_pairs(1, 1)), counts=(1,))).all()
    flat = np.full((3, 64, 64, 3), 9, np.uint8)
    fitter = ComparisonFitter(extract, config)
    fitter.add(flat, flat)
    assert np.isfinite(Comparison(fitter.arrays(), extract, config).maps(Restored(*_pairs(1, 1)))[0]).all()


def test_parameters_and_what_is_missing() -> None:
    test = Restored(*_pairs(2, 1))
    plain = _maps(_config(), test)
    assert not np.allclose(_maps(_config(surroundings=2), test), plain)
    seen: list[int] = []

    images, restorations = _pairs(4, 0)

    def watched(pictures: np.ndarray) -> np.ndarray:
        seen.append(pictures.shape[1])
        return extract(enlarge_images(pictures, 64))

    ComparisonFitter(watched, _config(compare_side=128)).add(enlarge_images(images, 128), restorations)
    assert set(seen) == {128}
    with pytest.raises(UserError, match="ImageNet CNN"):
        ComparisonFitter(None, _config())


def test_sides() -> None:
    assert _config(image_side=32, compare_side=96).input_side == 96
    assert _config(image_side=20, compare="ssim", compare_side=160).input_side == 20
    with pytest.raises(
        ValidationError, match="compare_side 256 is not a multiple of image_side 96: take compare_side 288"
    ):
        _config(image_side=96, compare_side=256)


@pytest.mark.parametrize("name", ["ear", "intra"])
@pytest.mark.parametrize("wanted", [True, False])
def test_precision_reaches_the_training_loop(name: str, wanted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []

    def stop(*arguments: Any) -> None:
        seen.append(arguments[-1])
        raise InterruptedError

    monkeypatch.setattr(lightning_loop, "run", stop)
    config = {"ear": ear_config(), "intra": TINY}[name].model_copy(update={"mixed_precision": wanted})
    with pytest.raises(InterruptedError):
        detector(name).fit(ear_samples(4, 0), ear_samples(2, 1), config, 0, Session())
    assert seen == [wanted]  # what the trainer makes of it: tests/stages/backbone/objectives/test_fields.py


def test_in_half_precision_the_losses_are_computed_in_single_precision() -> None:
    """The path of a GPU, taken on the CPU with bfloat16: variances of nearly equal values would be lost in it."""
    generator = torch.Generator().manual_seed(0)
    target = 0.5 + 0.01 * torch.rand((2, 3, 16, 16), generator=generator)
    ear = Recovery(ear_config())
    ear.network = torch.nn.Identity()  # type: ignore[assignment]
    intra = InpaintingTask(build(TINY, 0), TINY)
    patches = TINY.patch_side**2 * 3
    windows = torch.randint(0, 256, (4, 9, patches), generator=generator, dtype=torch.uint8)
    batch = (windows, torch.arange(9).expand(4, 9), torch.tensor([0, 3, 5, 8]))
    shifted = (target + 0.001, target)
    exact = (ear.loss(shifted)["ssim"], intra.loss(batch)["ssim"])
    with torch.autocast("cpu", torch.bfloat16):
        half = (ear.loss(shifted)["ssim"], intra.loss(batch)["ssim"])
    assert all(one.dtype == torch.float32 for one in half)
    assert float(half[0]) == float(exact[0])
    assert float(half[1]) == pytest.approx(float(exact[1]), rel=0.05)
