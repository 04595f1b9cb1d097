"""The training of the U-Net, and the pixel maps of what it could not restore."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stages.detectors.ear import restore as module
from stages.detectors.ear.hint import NO_HINT, mosaic
from stages.detectors.ear.pixels import PixelFitter
from stages.detectors.ear.restore import Masked, Recovery, as_tensor, restore, scale_errors, scales_of
from stages.detectors.ear.unet import UNet
from stages.detectors.shared.pixel_maps import PIXEL_KINDS, dissimilarity
from stages.detectors.shared.similarity import msgms
from tests.stages.detectors.ear.tiny import config, samples


def _data(count: int = 6) -> Masked:
    masks = np.zeros((count, 16, 16), dtype=np.bool_)
    masks[:, :8, :8] = True
    return Masked(samples(count, 0).images[:], masks)


def _network() -> UNet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return UNet(4, 2, 3, pixels=True).eval()


@pytest.mark.parametrize("depth", [1, 3])
def test_unet_keeps_the_size_doubles_channels_and_sees_every_pixel(depth: int) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = UNet(4, depth, 3, pixels=True).eval()
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1), requires_grad=True)
    out = network(image)
    assert out.shape == (1, 3, 16, 16)
    assert ((out > 0) & (out < 1)).all()
    assert network.down[depth][0].out_channels == 4 * 2**depth
    out.sum().backward()
    assert image.grad is not None
    assert (image.grad != 0).any(dim=1).all()


def test_fine_detail_reaches_the_output_past_the_bottleneck() -> None:
    network = _network()
    for parameter in network.enlarge[0].parameters():
        torch.nn.init.zeros_(parameter)  # nothing comes from below any more
    a, b = torch.rand(2, 1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    assert (network(a) - network(b)).abs().max() > 1e-3


def test_loss_by_hand_for_a_perfect_and_a_flat_restoration() -> None:
    task = Recovery(config(gms_weight=2.0, ssim_weight=3.0), 3)
    task.network = torch.nn.Identity()  # type: ignore[assignment]
    dark, bright = torch.full((1, 3, 16, 16), 0.2), torch.full((1, 3, 16, 16), 0.6)
    everywhere = torch.ones(1, 1, 16, 16, dtype=torch.bool)
    assert float(task.loss((dark, dark, everywhere))["loss"]) == pytest.approx(0, abs=1e-5)
    ssim = (2 * 0.2 * 0.6 + 1e-4) / (0.04 + 0.36 + 1e-4)
    values = task.loss((dark, bright, everywhere))
    assert float(values["loss"]) == pytest.approx(0.16 + 2 * 0 + 3 * (1 - ssim), abs=1e-3)
    edge = bright.clone()
    edge[..., 8:] = 0.2
    values = task.loss((dark, edge, everywhere))
    expected = values["l2"] + 2 * values["gms"] + 3 * values["ssim"]
    assert float(values["gms"]) > 0.05
    assert torch.allclose(values["loss"], expected)


def test_an_epoch_holds_each_image_once_and_depends_on_seed_and_epoch_alone() -> None:
    data, setup = _data(), config()
    targets = torch.cat([target for _, target, _ in module._epoch(data, setup, 0, 3)])
    assert [len(t) for _, t, _ in module._epoch(data, setup, 0, 3)] == [4, 2]
    images = as_tensor(data.images)
    assert all(any(torch.equal(image, target) for target in targets) for image in images)

    def hinted(seed: int, epoch: int) -> torch.Tensor:
        return torch.cat([hints for hints, _, _ in module._epoch(data, setup, seed, epoch)])

    assert torch.equal(hinted(0, 3), hinted(0, 3))
    assert not torch.equal(hinted(0, 3), hinted(0, 4))
    assert not torch.equal(hinted(0, 3), hinted(1, 3))


def test_order_and_random_masks_are_new_in_each_epoch() -> None:
    data, setup = _data(), config(batch=6, hint="none", random_mask_share=1.0)
    (first,), (second,) = (list(module._epoch(data, setup, 0, epoch)) for epoch in (0, 1))
    assert not torch.equal(first[1], second[1])
    assert not torch.equal(first[0] == 0, second[0] == 0)


@pytest.mark.parametrize(("share", "own"), [(0.0, 60), (1.0, 0), (0.5, 30)])
def test_share_of_random_masks(share: float, own: int) -> None:
    data = _data(60)
    before = data.masks.copy()
    setup = config(random_mask_share=share, hint="none", mask_fraction=0.25)
    count = 0
    for hints, _, holes in module._epoch(data, setup, 0, 0):
        cut = (hints == 0).all(1)  # stripes are nowhere black
        assert torch.equal(cut, holes[:, 0])
        count += int((cut == torch.from_numpy(data.masks[0])).all(dim=(1, 2)).sum())
        assert (cut.sum(dim=(1, 2)) == 64).all()  # random blocks have the area of the masks
    assert abs(count - own) <= 10 * (0 < share < 1)
    np.testing.assert_array_equal(data.masks, before)  # the images' own masks are not overwritten


def test_every_candidate_scale_is_trained_and_validated() -> None:
    data, setup = _data(40), config(mosaic_scales=(4, 2), random_mask_share=0.0)
    for batches in (module._epoch(data, setup, 0, 0), module._validation(data, setup)):
        seen = {
            scale
            for hints, targets, _ in batches
            for hint, target in zip(hints, targets, strict=True)
            for scale in (2, 4)
            if torch.equal(hint[:, :8, :8], mosaic(target[None], scale)[0, :, :8, :8])
        }
        assert seen == {2, 4}


def test_scales_are_sorted_and_no_hint_has_none() -> None:
    assert scales_of(config(mosaic_scales=(8, 2, 4))) == (2, 4, 8)
    assert scales_of(config(hint="none")) == (NO_HINT,)


def test_curve_is_the_mean_difference_under_the_masks() -> None:
    network, data, setup = _network(), _data(), config()
    errors = scale_errors(network, data, setup)
    images, masks = as_tensor(data.images), torch.from_numpy(data.masks)[:, None]
    for scale in (2, 4):
        with torch.inference_mode():
            restored = network(torch.where(masks, mosaic(images, scale), images))
            expected = (1 - msgms(images, restored))[masks].mean()
        assert errors[scale] == pytest.approx(float(expected), rel=1e-4)


def test_mean_and_spread_are_those_of_the_maps() -> None:
    network, data = _network(), _data()
    arrays = PixelFitter(network, ("rarity_raw",), 4, 16).add(data.images, {"rarity_raw": data.masks})
    pixels = [as_tensor(image[None]) for image in data.images]
    holes = [torch.from_numpy(mask)[None, None] for mask in data.masks]
    restored = [restore(network, image, hole, 4) for image, hole in zip(pixels, holes, strict=True)]
    for kind in PIXEL_KINDS:
        maps = [dissimilarity(a, b, kind)[0, 0].numpy() for a, b in zip(pixels, restored, strict=True)]
        np.testing.assert_allclose(arrays[f"rarity_raw.{kind}.mean"], np.mean(maps, 0), atol=1e-6)
        np.testing.assert_allclose(arrays[f"rarity_raw.{kind}.spread"], np.std(maps, 0), atol=1e-5)
    assert {values.dtype for values in arrays.values()} == {np.dtype(np.float32)}


def test_the_loss_of_tokens_counts_the_cut_only() -> None:
    task = Recovery(config(space="tokens"), 2)
    task.network = torch.nn.Identity()  # type: ignore[assignment]
    seen, target = torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 4)
    target[0, 0, 0, 0], target[0, 1, 0, 1], target[0, :, 3, 3] = 3, 1, 100
    hole = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    hole[..., 0, :2] = True
    assert float(task.loss((seen, target, hole))["loss"]) == (9 + 1) / (2 * 2)
