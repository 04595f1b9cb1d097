"""Frozen CNNs whose features `distill` predicts: EfficientNet-Lite0 to 2, or any CNN of timm."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from stages.backbone.config import TIMM, BackboneConfig
from stages.backbone.networks.lite0 import Lite0, imagenet
from stages.backbone.networks.timm_models import ParameterNames, create_pretrained
from stages.types import UserError

DEEP_STRIDE = 32
ASKED = ParameterNames("backbone.teacher", "backbone.teacher_checkpoint", "`lite0`, whose weights are installed")

Teacher = Callable[[Tensor], Tensor]
"""(B, 3, s, s) pixels in [0, 255] -> (B, D, s/32, s/32)."""


def teacher_for(config: BackboneConfig) -> Teacher:
    """The teacher with its weights.

    Raises:
        UserError: the network does not exist or has no features at stride 32; the weights are missing or of another
            network.
    """
    if not config.teacher.startswith(TIMM):
        return partial(_last_level, imagenet(config.patch, True, config.teacher))
    name, side = config.teacher.removeprefix(TIMM), config.crop_side
    check = partial(_check, name, side)
    network = create_pretrained(name, side, config.teacher_checkpoint, check, ASKED).requires_grad_(False)
    return partial(_last_map, network)


def _last_level(network: Lite0, crops: Tensor) -> Tensor:
    *_, last = network.levels(crops)
    return last


def _last_map(network: Any, crops: Tensor) -> Tensor:
    """timm's features of a network (`forward_features`), for pixels normalised as in its training."""
    mean, spread = (255.0 * torch.tensor(network.pretrained_cfg[key])[:, None, None] for key in ("mean", "std"))
    features: Tensor = network.forward_features((crops - mean) / spread)
    return features


def _check(name: str, side: int, network: nn.Module) -> None:
    grid = side // DEEP_STRIDE
    with torch.no_grad():
        shape = tuple(_last_map(network.eval(), torch.zeros(1, 3, side, side)).shape)
    if len(shape) != 4 or shape[2:] != (grid, grid):
        raise UserError(
            f"backbone.teacher: `{name}` of timm gives features {shape} for a crop of {side} px, not "
            f"(1, channels, {grid}, {grid}); choose a CNN whose last stage has stride 32, say `timm:resnet18`"
        )
