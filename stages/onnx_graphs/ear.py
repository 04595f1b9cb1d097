"""EAR as a graph, with its deployed mask.

Legend: S side that the network sees; T side of the image; h, w patch grid; C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.detectors.ear.config import EarConfig
from stages.detectors.ear.hint import excise
from stages.detectors.ear.mask_sources import MASK_SOURCES
from stages.detectors.ear.unet import UNet
from stages.detectors.shared.highest import top_count
from stages.detectors.shared.named_arrays import arrays_below
from stages.detectors.shared.network_weights import load_weights
from stages.detectors.shared.pixel_maps import PixelKind, dissimilarity, pixel_scale
from stages.onnx_graphs.compare import feature_comparison, reduce_pixels
from stages.onnx_graphs.interface import ExportGraph, feature_input, image_input
from stages.onnx_graphs.parts import Nearest, bilinear, smooth
from stages.types import Fitted, Samples


class Recovery(nn.Module):
    """Image (1, T, T, 3) uint8 and the source of its mask -> map and image score."""

    mean: Tensor
    scale: Tensor

    def __init__(self, fitted: Fitted, config: EarConfig, grid: tuple[int, int], cnn: nn.Module | None) -> None:
        super().__init__()
        self._config, self._hint = config, int(fitted.info["scale"])
        self.network = UNet(config.width, config.depth)
        load_weights(self.network, fitted.arrays)
        memory = arrays_below(fitted.arrays, f"memory.{config.mask}.")
        self.mask = Mask(grid, config.image_side, config.mask_fraction)
        self.nearest = Nearest(memory, config.neighbours) if memory else None
        self.compared = feature_comparison(fitted.arrays, config, cnn)
        self._by: PixelKind = "ssim" if config.compare == "features" else config.compare
        if self.compared is None:
            good = arrays_below(fitted.arrays, f"{config.mask}.{self._by}.")
            scale = pixel_scale(good["spread"], config.spread_floor)
            self.register_buffer("mean", torch.from_numpy(good["mean"].copy()))
            self.register_buffer("scale", torch.from_numpy(scale).float())
            self.smooth = smooth((config.image_side, config.image_side), config.smooth_sigma, mode="nearest")

    def forward(self, image: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
        pixels = image.permute(0, 3, 1, 2).float()  # (1, 3, T, T)
        mask = self.mask(self._saliency(source[0]))
        small = reduce_pixels(pixels, self._config.image_side) / 255
        restored = self.network(excise(small, mask[None, None], self._hint))
        if self.compared is not None:
            plane = self.compared(pixels, restored, mask)
            return plane, plane.max()
        difference = dissimilarity(small, restored, self._by)[0, 0]
        plane = self.smooth((difference - self.mean) / self.scale)
        count = top_count(self._config.top_fraction * plane.numel())
        return plane, plane.flatten().topk(count).values.mean()

    def _saliency(self, source: Tensor) -> Tensor:
        """(heads, h, w) attention or (h, w, C) tokens -> (h, w) in [0, 1]; a flat plane becomes zeros."""
        plane = source.mean(0) if self.nearest is None else self.nearest(source)
        low, high = plane.min(), plane.max()
        return torch.where(high > low, (plane - low) / (high - low), torch.zeros_like(plane))


class Mask(nn.Module):
    """(h, w) saliency -> (S, S) bool: `mask_of`. Pixels are ordered by grown saliency, then saliency, then position.

    Among equal values, ONNX's TopK puts the lower index first. So two TopK in a row, the first by the second key, order
    exactly by both keys. PyTorch's topk promises no such order: the mask is exact in the exported graph only.
    """

    def __init__(self, grid: tuple[int, int], side: int, fraction: float) -> None:
        super().__init__()
        self.enlarge = bilinear(grid, side)
        self._radius, self._count = side // (2 * min(grid)), top_count(fraction * side * side)

    def forward(self, saliency: Tensor) -> Tensor:
        fine = self.enlarge(saliency)
        grown = F.max_pool2d(fine[None, None], 2 * self._radius + 1, stride=1, padding=self._radius)
        by_saliency = fine.flatten().topk(fine.numel()).indices
        first = grown.flatten()[by_saliency].topk(self._count).indices
        return torch.zeros(fine.numel()).scatter(0, by_saliency[first], 1.0).view(fine.shape) > 0.5


def graph(fitted: Fitted, config: EarConfig, samples: Samples, cnn: nn.Module | None) -> ExportGraph:
    """See `interface.Graph`."""
    source = feature_input(MASK_SOURCES[config.mask], samples)
    shape = source.shape[2:] if config.mask == "attention" else source.shape[1:3]  # (1, heads, h, w) or (1, h, w, C)
    module = Recovery(fitted, config, (shape[0], shape[1]), cnn)
    return ExportGraph(module.eval(), (image_input(config.input_side), source))
