"""Similarity of two images at each pixel: gradient magnitude similarity (GMS) and structural similarity (SSIM).

Both are differentiable. Images are (B, C, H, W) float in [0, 1] with C = 1 (grey) or 3 (RGB). A map is (B, 1, H, W),
1 where both images are the same.

Colour: gradients are computed on the grey image, the mean of the channels; SSIM on each channel, then averaged.
Borders: the outermost pixel is repeated (a flat image has no edge at its border), so maps are as large as the images.

Sources: GMS: Xue et al., "Gradient Magnitude Similarity Deviation", IEEE TIP 2014, eq. 3-4, whose constant 170 for
values in 0..255 is 170 / 255^2 = 0.0026 here. Multi-scale GMS: Zavrtanik et al., "Reconstruction by inpainting for
visual anomaly detection" (RIAD), Pattern Recognition 2021, section 3.2. SSIM: Wang et al., IEEE TIP 2004, eq. 13.
Deviation: Xue et al. halve the images before the comparison; RIAD, InTra and this module do not.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

GMS_CONSTANT = 0.0026
SSIM_SIGMA = 1.5
SSIM_RADIUS = 5
"""Window of 2 * 5 + 1 = 11 pixels."""
_TINY = 1e-12
"""Added under the root to keep its gradient finite on flat regions. It changes a magnitude by at most 1e-6."""


def gms(a: Tensor, b: Tensor, constant: float = GMS_CONSTANT) -> Tensor:
    """Gradient magnitude similarity: (2 g g' + c) / (g^2 + g'^2 + c).

    Args:
        a, b: (B, C, H, W) in [0, 1].

    Returns:
        (B, 1, H, W) in (0, 1].
    """
    ga, gb = gradient_magnitude(a), gradient_magnitude(b)
    return (2 * ga * gb + constant) / (ga.square() + gb.square() + constant)


def gradient_magnitude(image: Tensor) -> Tensor:
    """Prewitt gradient magnitude (kernels divided by 3) of the grey image: (B, C, H, W) -> (B, 1, H, W)."""
    grey = image.mean(1, keepdim=True)
    p = F.pad(grey, (1, 1, 1, 1), mode="replicate")  # (B, 1, H + 2, W + 2)
    # The kernel is a difference along one axis times a mean of three along the other: sliced, it needs no convolution.
    across = p[..., :, 2:] - p[..., :, :-2]  # (B, 1, H + 2, W)
    down = p[..., 2:, :] - p[..., :-2, :]  # (B, 1, H, W + 2)
    gx = (across[..., :-2, :] + across[..., 1:-1, :] + across[..., 2:, :]) / 3
    gy = (down[..., :, :-2] + down[..., :, 1:-1] + down[..., :, 2:]) / 3
    return (gx.square() + gy.square() + _TINY).sqrt()


def msgms(a: Tensor, b: Tensor, scales: int = 3, constant: float = GMS_CONSTANT) -> Tensor:
    """Multi-scale GMS: the mean of the maps of the image and of its successive halves, brought to full size.

    An image is halved by means of 2 x 2 pixels; at an odd last row or column, by means of the pixels that exist. Maps
    are enlarged by bilinear interpolation, pixel centres aligned.

    Args:
        a, b: (B, C, H, W) in [0, 1].
        scales: number of sizes; 3: the image, 1/2 and 1/4.

    Returns:
        (B, 1, H, W) in (0, 1].
    """
    size = a.shape[-2:]
    # Halving and the mean of the channels are linear: converting to grey first gives the same at a third of the cost.
    a, b = a.mean(1, keepdim=True), b.mean(1, keepdim=True)
    total = gms(a, b, constant)
    for _ in range(1, scales):
        a, b = _half(a), _half(b)
        total = total + F.interpolate(gms(a, b, constant), size, mode="bilinear", align_corners=False)
    return total / scales


def _half(image: Tensor) -> Tensor:
    return F.avg_pool2d(image, 2, ceil_mode=True, count_include_pad=False)


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity in an 11 x 11 Gaussian window (sigma 1.5), mean over the channels.

    The constants are 0.01^2 and 0.03^2; variances are population variances of the window (Wang et al., eq. 15).

    Args:
        a, b: (B, C, H, W) in [0, 1].

    Returns:
        (B, 1, H, W) in [-1, 1].
    """
    c1, c2 = 0.01**2, 0.03**2
    mean_a, mean_b, aa, bb, ab = _blur(torch.stack([a, b, a * a, b * b, a * b]))  # each (B, C, H, W)
    variance_a, variance_b = aa - mean_a.square(), bb - mean_b.square()
    covariance = ab - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + c1) / (mean_a.square() + mean_b.square() + c1)
    structure = (2 * covariance + c2) / (variance_a + variance_b + c2)
    return (luminance * structure).mean(1, keepdim=True)


def _blur(images: Tensor) -> Tensor:
    """Separable Gaussian over the last two axes, borders repeated: (..., H, W) -> the same shape.

    It is two products with band matrices, at the sides used here several times as fast as a convolution with one
    channel.
    """
    height, width = images.shape[-2:]
    return _band(height, images) @ images @ _band(width, images).T  # (H, H) @ (..., H, W) @ (W, W)


def _band(size: int, like: Tensor) -> Tensor:
    """(size, size): row i holds the Gaussian weights around pixel i, those outside the image added to its border."""
    offsets = torch.arange(-SSIM_RADIUS, SSIM_RADIUS + 1, device=like.device)
    weights = torch.exp(-offsets.to(like.dtype).square() / (2 * SSIM_SIGMA**2))
    columns = (torch.arange(size, device=like.device)[:, None] + offsets).clamp(0, size - 1)  # (size, 11)
    band = torch.zeros(size, size, dtype=like.dtype, device=like.device)
    return band.scatter_add_(1, columns, (weights / weights.sum()).expand(size, -1))
