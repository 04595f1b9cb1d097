"""Backbone and denoiser as one graph. Its outputs are inputs of the detectors' graphs."""

from __future__ import annotations

from torch import Tensor, nn

from stages.backbone.networks.load import load
from stages.denoise.denoiser import load_denoiser
from stages.onnx_graphs.interface import ExportGraph, image_input
from stages.types import Fitted


class Backbone(nn.Module):
    """Image (1, S, S, 3) uint8 -> `raw` and `clean` tokens (1, h, w, C), and class attention (1, heads, h, w), if any.

    All outputs are rounded to half precision.
    """

    def __init__(self, network: nn.Module, denoiser: nn.Module, scale: float | None) -> None:
        """
        Args:
            denoiser: the denoiser's block, or the distilled backbone.
            scale: number by which tokens are divided before the block; None for a distilled backbone, which takes
                pixels.
        """
        super().__init__()
        self.network, self.denoiser, self._scale = network, denoiser, scale

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        pixels = image.permute(0, 3, 1, 2).float()
        patches, attention = self.network(pixels)
        raw = _round_to_half(patches.permute(0, 2, 3, 1))
        if self._scale is None:
            clean = self.denoiser(pixels)[0].permute(0, 2, 3, 1)
        else:
            clean = self.denoiser(raw / self._scale) * self._scale
        return raw, _round_to_half(clean), *(() if attention is None else (_round_to_half(attention),))


def _round_to_half(values: Tensor) -> Tensor:
    return values.half().float()


def graph(backbone: Fitted, denoiser: Fitted, distilled: bool) -> ExportGraph:
    """The graph of a backbone and its denoiser.

    Args:
        denoiser: the denoiser's block, or the backbone that was distilled from it.
        distilled: it is the distilled backbone.
    """
    network = load(backbone, "cpu")
    scale = None if distilled else float(denoiser.info["scale"])
    cleaner = load(denoiser, "cpu").network if distilled else load_denoiser(denoiser, "cpu")
    outputs = ("raw", "clean", *(("attention",) if network.heads else ()))
    module = Backbone(network.network, cleaner, scale)
    return ExportGraph(module.eval(), (image_input(network.image_side),), outputs)
