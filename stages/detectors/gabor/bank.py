"""Gabor amplitudes and local statistics of an image, pooled to a grid of positions.

Legend: S image side in pixels; s side at one scale; G grid side; o orientations; d features per position.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.detectors.gabor.config import GaborConfig

_HALF = 6
"""The filters have 2 * 6 + 1 = 13 pixels a side."""
_WINDOWS = (9, 25)
"""Sides in pixels of the windows for mean and standard deviation."""
_TINY = 1e-6
"""Added before the logarithm; grey values are in 0 to 1."""


def filters(config: GaborConfig) -> Tensor:
    """(2*o, 1, 13, 13): the even and the odd Gabor filter of each orientation, with mean 0, over the envelope's sum."""
    line = torch.arange(-_HALF, _HALF + 1, dtype=torch.float64)
    y, x = torch.meshgrid(line, line, indexing="ij")
    envelope = torch.exp(-(x**2 + y**2) / (2 * config.sigma**2))
    pairs = []
    for orientation in range(config.orientations):
        angle = orientation * math.pi / config.orientations
        phase = 2 * math.pi / config.wavelength * (x * math.cos(angle) + y * math.sin(angle))
        pairs += [envelope * torch.cos(phase), envelope * torch.sin(phase)]
    bank = torch.stack(pairs)
    # mean 0, so that the filters do not respond to brightness
    bank = (bank - bank.mean(dim=(1, 2), keepdim=True)) / envelope.sum()
    return bank[:, None].float()


def features(grey: Tensor, bank: Tensor, config: GaborConfig) -> Tensor:
    """(S, S) grey in 0 to 1 -> (G*G, d) log features, d = 2 * scales * o + 4.

    The features are, at each scale, the amplitude of each quadrature pair of filters, mean-pooled and max-pooled to the
    grid; then mean and standard deviation in windows of 9 and 25 px, mean-pooled. One image per call: a convolution
    over several images may sum in another order.
    """
    image = grey[None, None]  # (1, 1, S, S)
    parts, scaled = [], image
    for scale in range(config.scales):
        if scale:
            scaled = F.avg_pool2d(scaled, 2)
        response = F.conv2d(F.pad(scaled, (_HALF,) * 4, mode="reflect"), bank)  # (1, 2*o, s, s)
        amplitude = response.unflatten(1, (-1, 2)).square().sum(dim=2).sqrt()  # (1, o, s, s)
        cell = amplitude.shape[-1] // config.grid
        parts += [F.avg_pool2d(amplitude, cell), F.max_pool2d(amplitude, cell)]
    cell = config.image_side // config.grid
    for window in _WINDOWS:
        mean = _box_mean(image, window)
        deviation = (_box_mean(image.square(), window) - mean.square()).clamp(min=0).sqrt()
        parts += [F.avg_pool2d(mean, cell), F.avg_pool2d(deviation, cell)]
    stacked = torch.cat(parts, dim=1)[0]  # (d, G, G)
    return torch.log(stacked + _TINY).flatten(1).T.contiguous()


def _box_mean(image: Tensor, window: int) -> Tensor:
    """Mean over a square window, mirrored at the border. Rows and columns apart, which is many times faster."""
    padded = F.pad(image, (window // 2,) * 4, mode="reflect")
    return F.avg_pool2d(F.avg_pool2d(padded, (1, window), 1), (window, 1), 1)
