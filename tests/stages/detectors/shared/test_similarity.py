"""Image comparisons against values worked by hand and slow references."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stages.detectors.shared.similarity import gms, gradient_magnitude, msgms, ssim
from tests.reference import similarity as slow


def _pair(seed: int, channels: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.rand(2, 2, channels, height, width, generator=generator, dtype=torch.float64)
    return a, 0.5 * a + 0.5 * b


def test_gms_of_an_edge_against_a_flat_image_by_hand() -> None:
    edge = torch.zeros(1, 1, 4, 6, dtype=torch.float64)
    edge[..., 3:] = 0.6  # magnitude 0.6 beside the edge, in columns 2 and 3; 0 elsewhere
    flat = torch.zeros_like(edge)
    expected = torch.ones(4, 6, dtype=torch.float64)
    expected[:, 2:4] = 0.0026 / (0.36 + 0.0026)
    assert torch.allclose(gms(edge, flat)[0, 0], expected, atol=1e-5)


def test_magnitude_of_a_ramp_by_hand() -> None:
    ramp = (torch.arange(5, dtype=torch.float64) / 10).view(1, 1, 1, 5).expand(1, 3, 4, 5)
    # inside, the difference spans two pixels (0.2); at the border the repeated pixel leaves one (0.1)
    assert torch.allclose(
        gradient_magnitude(ramp)[0, 0, 0], torch.tensor([0.1, 0.2, 0.2, 0.2, 0.1]).double(), atol=1e-6
    )


def test_msgms_of_two_scales_by_hand() -> None:
    checks = torch.zeros(1, 1, 4, 4, dtype=torch.float64)
    checks[..., ::2, ::2] = 1.0
    checks[..., 1::2, 1::2] = 1.0  # its halves are flat, so at scale 2 it is like any flat image
    flat = torch.zeros_like(checks)
    assert torch.allclose(msgms(checks, flat, scales=2), (gms(checks, flat) + 1) / 2, atol=1e-5)


def test_ssim_of_flat_images_by_hand() -> None:
    a, b = torch.full((1, 3, 8, 8), 0.2), torch.full((1, 3, 8, 8), 0.6)
    expected = (2 * 0.2 * 0.6 + 1e-4) / (0.04 + 0.36 + 1e-4)
    assert torch.allclose(ssim(a, b), torch.full((1, 1, 8, 8), expected), atol=1e-3)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 999), channels=st.sampled_from([1, 3]), height=st.integers(3, 11), width=st.integers(3, 11))
@pytest.mark.parametrize(("fast", "reference"), [(gms, slow.gms), (msgms, slow.msgms), (ssim, slow.ssim)])
def test_same_as_the_slow_reference(
    fast: Callable[[Tensor, Tensor], Tensor],
    reference: Callable[..., np.ndarray],
    seed: int,
    channels: int,
    height: int,
    width: int,
) -> None:
    a, b = _pair(seed, channels, height, width)
    result = fast(a, b)
    assert result.shape == (2, 1, height, width)
    for i in range(2):
        np.testing.assert_allclose(result[i, 0], reference(a[i].numpy(), b[i].numpy()), atol=1e-5)


@pytest.mark.parametrize("compare", [gms, msgms, ssim])
def test_one_for_equal_images_symmetric_and_lower_for_unequal(compare: Callable[[Tensor, Tensor], Tensor]) -> None:
    a, b = _pair(3, 3, 16, 16)
    assert torch.allclose(compare(a, a), torch.ones(2, 1, 16, 16, dtype=torch.float64))
    assert torch.allclose(compare(a, b), compare(b, a))
    assert compare(a, b).mean() < 0.99


@pytest.mark.parametrize("compare", [gms, msgms, ssim])
def test_slopes_are_finite_on_flat_images_and_point_the_right_way(compare: Callable[[Tensor, Tensor], Tensor]) -> None:
    flat = torch.full((1, 3, 16, 16), 0.5, requires_grad=True)
    target = _pair(5, 3, 16, 16)[0][:1].float()
    (1 - compare(flat, target)).mean().backward()
    assert flat.grad is not None
    assert torch.isfinite(flat.grad).all()
    image = (target * 0.5 + 0.25).requires_grad_()
    before = (1 - compare(image, target)).mean()
    (slope,) = torch.autograd.grad(before, image)
    assert (1 - compare(image - 0.5 * slope, target)).mean() < before
