"""EAR as a graph, with its deployed mask.

Legend: S side in pixels or tokens of what the network restores; h, w patch grid; C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.detectors.ear.config import EarConfig
from stages.detectors.ear.hint import excise
from stages.detectors.ear.mask_sources import MASK_SOURCES
from stages.detectors.ear.restore import new_network
from stages.detectors.shared.highest import top_count
from stages.detectors.shared.named_arrays import arrays_below
from stages.detectors.shared.network_weights import load_weights
from stages.detectors.shared.pixel_maps import dissimilarity, pixel_scale
from stages.onnx_graphs.interface import ExportGraph, feature_input
from stages.onnx_graphs.parts import Nearest, bilinear, smooth
from stages.onnx_graphs.tokens import TokenRest, restored_input
from stages.types import Fitted, Samples


class Recovery(nn.Module):
    """(1, Z, S, S) and the source of its mask -> its restoration (1, Z, S, S), and the mask (S, S)."""

    def __init__(self, fitted: Fitted, config: EarConfig, grid: tuple[int, int], side: int, channels: int) -> None:
        super().__init__()
        self._hint = int(fitted.info["scale"])
        trained = config.space == "pixels" or config.restore == "network"
        self.network = new_network(config, channels) if trained else None
        if self.network is not None:
            load_weights(self.network, fitted.arrays)
        memory = arrays_below(fitted.arrays, f"memory.{config.mask}.")
        self.mask = Mask(grid, side, config.mask_fraction)
        self.nearest = Nearest(memory, config.neighbours) if memory else None

    def forward(self, seen: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
        mask = self.mask(self._saliency(source[0]))
        if self.network is None:
            return torch.zeros_like(seen), mask
        return self.network(excise(seen, mask[None, None], self._hint)), mask

    def _saliency(self, source: Tensor) -> Tensor:
        """(heads, h, w) attention or (h, w, C) tokens -> (h, w) in [0, 1]; a flat plane becomes zeros."""
        plane = source.mean(0) if self.nearest is None else self.nearest(source)
        low, high = plane.min(), plane.max()
        return torch.where(high > low, (plane - low) / (high - low), torch.zeros_like(plane))


class OfPixels(nn.Module):
    """Image (1, S, S, 3) uint8 and the source of its mask -> map and image score."""

    mean: Tensor
    scale: Tensor

    def __init__(self, fitted: Fitted, config: EarConfig, grid: tuple[int, int]) -> None:
        super().__init__()
        self._config, side = config, config.image_side
        self.recover = Recovery(fitted, config, grid, side, 3)
        good = arrays_below(fitted.arrays, f"{config.mask}.{config.compare}.")
        scale = pixel_scale(good["spread"], config.spread_floor)
        self.register_buffer("mean", torch.from_numpy(good["mean"].copy()))
        self.register_buffer("scale", torch.from_numpy(scale).float())
        self.smooth = smooth((side, side), config.smooth_sigma, mode="nearest")

    def forward(self, image: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
        pixels = image.permute(0, 3, 1, 2).float() / 255
        restored, _ = self.recover(pixels, source)
        difference = dissimilarity(pixels, restored, self._config.compare)[0, 0]
        plane = self.smooth((difference - self.mean) / self.scale)
        count = top_count(self._config.top_fraction * plane.numel())
        return plane, plane.flatten().topk(count).values.mean()


class OfTokens(nn.Module):
    """Image (1, S, S, 3) uint8 or tokens (1, h, w, C), and the source of its mask -> map and its maximum."""

    def __init__(self, fitted: Fitted, config: EarConfig, grid: tuple[int, int], cnn: nn.Module | None) -> None:
        super().__init__()
        self.rest = TokenRest(fitted.arrays, config, cnn)
        side, _, channels = self.rest.shape
        self.recover = Recovery(fitted, config, grid, side, channels)

    def forward(self, given: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.rest.standardised(given)
        # rounded as the detector rounds them
        seen = self.rest.reduce(tokens).half().float().permute(2, 0, 1)[None]  # (1, Z, h, w)
        restored, mask = self.recover(seen, source)
        plane = self.rest(tokens, restored[0].permute(1, 2, 0), mask.float())
        return plane, plane.max()


class OneSource(nn.Module):
    """Tokens (1, h, w, C) that are restored, and that the mask is made from."""

    def __init__(self, module: OfTokens) -> None:
        super().__init__()
        self.module = module

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        plane, score = self.module(tokens, tokens)
        return plane, score


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
    source, restored = feature_input(MASK_SOURCES[config.mask], samples), restored_input(config, samples)
    shape = source.shape[2:] if config.mask == "attention" else source.shape[1:3]  # (1, heads, h, w) or (1, h, w, C)
    grid = (shape[0], shape[1])
    if config.space == "pixels":
        return ExportGraph(OfPixels(fitted, config, grid).eval(), (restored, source))
    module = OfTokens(fitted, config, grid, cnn)
    if restored.name == source.name:
        return ExportGraph(OneSource(module).eval(), (source,))
    return ExportGraph(module.eval(), (restored, source))
