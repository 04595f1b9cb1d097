"""Loads a fitted backbone behind the interface that other rooms read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.backbone.config import CNN, FOCUS, BackboneConfig
from stages.backbone.networks.crops import to_pixels
from stages.backbone.networks.feature_map import FeatureMap, check_map
from stages.backbone.networks.focus import focus_weights
from stages.backbone.networks.interface import Features
from stages.backbone.networks.lite0 import MEAN, SPREAD
from stages.backbone.networks.timm_models import create, create_pretrained
from stages.backbone.networks.timm_vit import TimmVit, check_vit, is_vit
from stages.backbone.networks.vit import PIXELS, Cnn, Hybrid, Plain
from stages.torch_setup import one_thread
from stages.types import Fitted, UserError, batches

ARCHITECTURE_FIELDS = ("model", "image_side", "patch", "depth", "heads", "width", "mlp_ratio")
"""Parameters that determine the features beside the weights, with `blocks` and `join_blocks` if blocks are named; other
parameters act through the weights."""

GPU_BATCH = 64
"""Images that pass through a GPU together."""


def network_for(config: BackboneConfig) -> nn.Module:
    """The network with fresh weights, from torch's default generator; for models of timm always the same weights."""
    if config.timm_name is not None:
        return _around(create(config.timm_name, config.image_side), config)
    return {"cnn": Cnn, "hybrid": Hybrid, "plain": Plain}[config.model](config)


def pretrained(config: BackboneConfig) -> TimmVit | FeatureMap:
    """The network around a model of timm with its trained weights.

    Raises:
        UserError: the model does not exist or cannot have these parameters; the weights are missing or of another
            model.
    """
    assert config.timm_name is not None
    if config.model == FOCUS:
        model = create(config.timm_name, config.image_side)
        _check(model, config)
        model.load_state_dict(focus_weights(config.image_side))
        return _around(model, config)
    check = partial(_check, config=config)
    return _around(create_pretrained(config.timm_name, config.image_side, config.checkpoint, check), config)


def _around(model: nn.Module, config: BackboneConfig) -> TimmVit | FeatureMap:
    _check(model, config)
    if is_vit(model):
        return TimmVit(model, config.blocks, config.join_blocks == "stack")
    return FeatureMap(model, config.image_side, config.patch, config.strides)


def _check(model: nn.Module, config: BackboneConfig) -> None:
    name = config.timm_name or config.model
    if not is_vit(model):
        if config.blocks is not None:
            raise UserError(
                f"backbone.blocks: `{name}` is read by its feature maps; set blocks to null, choose strides"
            )
        check_map(model, name, config.image_side, config.patch, config.strides)
        return
    if config.model.startswith(CNN):
        raise UserError(f"backbone.model: `{name}` is a ViT, not a convolutional network; write `timm:{name}`")
    check_vit(model, name, config.image_side, config.blocks)


def architecture_of(config: BackboneConfig, network: nn.Module) -> dict[str, Any]:
    """The fields of `config` that this network's forward pass depends on."""
    if isinstance(network, FeatureMap):
        return {**config.model_dump(include={"model", "image_side", "patch"}), "strides": list(config.strides)}
    if isinstance(network, TimmVit):
        names: tuple[str, ...] = ("model", "image_side")
    elif config.model == "cnn":
        names = ("model", "image_side", "patch")
    else:
        names = tuple(n for n in ARCHITECTURE_FIELDS if n != "width" or config.model == "plain")
    architecture = {name: getattr(config, name) for name in names}
    if config.blocks is not None:
        architecture |= {"blocks": list(config.blocks), "join_blocks": config.join_blocks}
    return architecture


def digest_of(arrays: Mapping[str, NDArray[Any]], architecture: Mapping[str, Any]) -> str:
    """sha256 of names, types, shapes and bytes of the weights, and of the architecture."""
    digest = hashlib.sha256(json.dumps(architecture, sort_keys=True).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def load(fitted: Fitted, device: str) -> LoadedBackbone:
    """The backbone on `device` (`cpu` or `cuda`).

    Raises:
        UserError: the weights do not belong to the description beside them.
    """
    config = BackboneConfig(**_of_today(fitted.info["architecture"]))
    digest = digest_of(fitted.arrays, fitted.info["architecture"])
    if digest != fitted.info["digest"]:
        raise UserError(
            f"the backbone's weights have the digest {digest[:12]}, its description says {fitted.info['digest'][:12]}: "
            "one of the two files was changed; run the stage `pretrain` again"
        )
    with torch.random.fork_rng():
        network = network_for(config)
    network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in fitted.arrays.items()})
    return LoadedBackbone(network.to(device).eval(), fitted.info, device)


def _of_today(architecture: Mapping[str, Any]) -> dict[str, Any]:
    """Backbones that were fitted before several blocks could be read have one `block`."""
    fields = dict(architecture)
    if "block" in fields:
        fields["blocks"] = [fields.pop("block")]
    return fields


class LoadedBackbone:
    """Implements `stages.backbone.networks.interface.Backbone`."""

    def __init__(self, network: nn.Module, info: Mapping[str, Any], device: str) -> None:
        self.network, self._device = network, device
        """(B, 3, S, S) pixels in [0, 255] -> tokens (B, C, h, w), class attention (B, heads, h, w) or None."""
        self.gpu_batch = GPU_BATCH
        """Images that go through a GPU together; set to fewer where its memory does not do for them."""
        self.digest: str = info["digest"]
        self.image_side: int = info["image_side"]
        self.grid: tuple[int, int] = (info["grid"][0], info["grid"][1])
        self.channels: int = info["channels"]
        self.heads: int = info["heads"]
        self.patch_size: int = self.image_side // self.grid[0]
        self.blocks: tuple[int, ...] | None = getattr(network, "blocks", None)
        if isinstance(network, TimmVit | FeatureMap):
            self.prefix_tokens, self.registers = network.prefix_tokens, network.registers
            self.mean, self.std = _rgb(network.mean), _rgb(network.spread)
        else:
            self.prefix_tokens, self.registers = int(hasattr(network, "trunk")), 0
            centre, spread = PIXELS if isinstance(network, Plain) else (MEAN, SPREAD)
            self.mean, self.std = _rgb(torch.full((3,), centre)), _rgb(torch.full((3,), spread))

    def extract(self, images: NDArray[np.uint8]) -> Features:
        """Tokens (B, h, w, C) and class attention (B, heads, h, w) or None, for (B, S, S, 3) uint8.

        On a CPU image by image in one thread: the kernels that a library chooses, and so the last bits, may depend on
        the size of a batch, and do depend on the number of threads; batches would gain nothing (README.md). On a GPU in
        half precision (softmax and norms in single precision), always `gpu_batch` images at once for the same reason;
        the last batch is padded.

        Raises:
            ValueError: another shape or type.
        """
        side = self.image_side
        if images.dtype != np.uint8 or images.shape[1:] != (side, side, 3):
            raise ValueError(f"the backbone reads uint8 (B, {side}, {side}, 3), not {images.dtype} {images.shape}")
        tokens = np.empty((len(images), *self.grid, self.channels), np.float32)
        attention = np.empty((len(images), self.heads, *self.grid), np.float32) if self.heads else None
        with torch.inference_mode(), one_thread():
            for part in batches(len(images), 1 if self._device == "cpu" else self.gpu_batch):
                patches, weights = self._forward(images[part])
                tokens[part] = patches.permute(0, 2, 3, 1).numpy()  # (b, C, h, w) -> (b, h, w, C)
                if attention is not None:
                    attention[part] = weights.numpy()
        return Features(tokens, attention)

    def _forward(self, images: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        """(b, C, h, w) and (b, heads, h, w) or empty, float32 on the CPU, for at most one batch."""
        if self._device == "cpu":
            patches, weights = self.network(to_pixels(images))
        else:
            padding = np.zeros((self.gpu_batch - len(images), *images.shape[1:]), np.uint8)
            pixels = to_pixels(np.concatenate([images, padding])).to(self._device)
            with torch.autocast(self._device.partition(":")[0], torch.float16):
                patches, weights = self.network(pixels)
        count = len(images)
        return patches[:count].float().cpu(), patches.new_empty(0) if weights is None else weights[:count].float().cpu()


def _rgb(pixels: Tensor) -> tuple[float, float, float]:
    """Pixel values in [0, 255] as a share of 255."""
    red, green, blue = (pixels / 255).tolist()
    return red, green, blue
