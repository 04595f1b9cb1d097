"""Builds the frozen backbone: from timm, from the ImageNet CNN alone, or by training on the user's images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stages.backbone.config import BackboneConfig
from stages.backbone.networks.crops import channel_statistics
from stages.backbone.networks.feature_map import FeatureMap
from stages.backbone.networks.lite0 import imagenet
from stages.backbone.networks.load import architecture_of, digest_of, network_for, pretrained
from stages.backbone.networks.timm_vit import TimmVit
from stages.backbone.networks.vit import Cnn, Hybrid, Plain
from stages.backbone.pretrain import pretrain
from stages.training import History, Session
from stages.types import Fitted, Rows, UserError

LOSSES = ("val_loss", "val_patch", "val_class", "train_loss")
CURVE = ("train_loss", "val_loss", "val_class")


def build(config: BackboneConfig, images: Rows, validation: Rows, seed: int, session: Session) -> Fitted:
    """The backbone as values.

    Args:
        images: (N, S, S, 3) uint8 RGB, good training images; ViTs of timm do not read them.
        validation: good images of other groups; they give the validation loss, which may choose the epoch that is kept.
        seed: of initial weights, crops, masks and order.

    Returns:
        Weights; `info` as `load` reads it; loss curves of the objective. The curves of `distill` are mean squared
        errors of standardised targets: 1 is chance.

    Raises:
        UserError: no images, images of another side, or weights that cannot be loaded.
    """
    if config.timm_name is not None:
        network: nn.Module = pretrained(config)
        if isinstance(network, FeatureMap):
            _standardise(network, network.stack, images, config.image_side)
        return _fitted(config, network, {})
    _check(images, config.image_side, "training")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = network_for(config)
    if isinstance(network, Cnn):
        cnn = network.cnn
        cnn.load_state_dict(imagenet(config.patch, deep=False).state_dict())
        _standardise(network, lambda pixels: cnn(pixels)[0], images, config.image_side)
    if isinstance(network, Hybrid | Plain) and config.steps > 0:
        _check(validation, config.image_side, "validation")
        return _fitted(config, network, _metrics(pretrain(network, images, validation, config, seed, session)))
    return _fitted(config, network, {})


def _standardise(network: Cnn | FeatureMap, stack: Callable[[Tensor], Tensor], images: Rows, side: int) -> None:
    _check(images, side, "training")
    mean, spread = channel_statistics(images, stack)
    network.standardise.mean.copy_(mean)
    network.standardise.spread.copy_(spread)


def _check(images: Rows, side: int, which: str) -> None:
    if len(images) == 0:
        raise UserError(f"the backbone needs at least one good {which} image, there is none; add images")
    if images.shape[1:] != (side, side, 3):
        raise UserError(f"backbone.image_side is {side}, the {which} images are {images.shape[1:]}; resize them to it")


def _fitted(config: BackboneConfig, network: nn.Module, metrics: dict[str, Any]) -> Fitted:
    arrays = {name: np.array(value.detach().cpu().numpy()) for name, value in network.state_dict().items()}
    architecture = architecture_of(config, network)
    timm_network = network if isinstance(network, TimmVit | FeatureMap) else None
    info = {
        "architecture": architecture,
        "digest": digest_of(arrays, architecture),
        "image_side": config.image_side,
        "grid": list(timm_network.grid) if timm_network else [config.image_side // config.patch] * 2,
        "channels": timm_network.channels if timm_network else _channels(network),
        "heads": timm_network.heads if timm_network else (0 if config.model == "cnn" else config.heads),
    }
    return Fitted(arrays, info, metrics)


def _channels(network: nn.Module) -> int:
    if isinstance(network, Cnn):
        channels = network.standardise.mean.numel()
    elif isinstance(network, Plain):
        channels = network.trunk.class_token.numel()
    else:
        raise TypeError(type(network))
    blocks = len(network.blocks) if isinstance(network, Hybrid | Plain) and network.stack else 1
    return channels * blocks


def _metrics(history: History) -> dict[str, Any]:
    kept = history.epochs[history.best_epoch]
    terms = [name for name in kept if name.startswith("val_") and name not in LOSSES]
    return {
        **{name: kept[name] for name in (*LOSSES, *terms) if name in kept},
        "best_epoch": history.best_epoch,
        "curve": [{name: epoch[name] for name in CURVE if name in epoch} for epoch in history.epochs],
    }
