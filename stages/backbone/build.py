"""Build the frozen backbone: from timm, from the CNN alone, or by in-domain pretraining."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from stages.backbone.config import TIMM, BackboneConfig
from stages.backbone.crops import channel_statistics, draw_pool
from stages.backbone.lite0 import imagenet
from stages.backbone.load import architecture_of, digest_of, network_for
from stages.backbone.pretrain import pretrain
from stages.backbone.timm_vit import TimmVit, pretrained
from stages.backbone.vit import Cnn, Hybrid, Plain
from stages.training import History, Session
from stages.types import Fitted, Rows, UserError

VALIDATION_CROPS = 64


def build(config: BackboneConfig, images: Rows, validation: Rows, seed: int, session: Session) -> Fitted:
    """The backbone as values.

    Args:
        images: (N, S, S, 3) uint8 RGB, normal training images; timm models do not read them.
        validation: the same of other groups; they choose the epoch that is kept, nothing else.
        seed: of initial weights, crops, masks and order.

    Returns:
        Weights; `info` as `load` reads it; loss curves, mean squared errors of standardised targets: 1 is chance.

    Raises:
        UserError: no images, images of another side, or weights out of reach.
    """
    if config.model.startswith(TIMM):
        network: nn.Module = pretrained(config.model.removeprefix(TIMM), config.image_side, config.checkpoint)
        return _fitted(config, network, {})
    _check(images, config.image_side, "training")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = network_for(config)
    if isinstance(network, Cnn):
        network.cnn.load_state_dict(imagenet(config.patch, deep=False).state_dict())
        mean, spread = channel_statistics(images, network.cnn)
        network.standardise.mean.copy_(mean)
        network.standardise.spread.copy_(spread)
    if isinstance(network, Hybrid | Plain) and config.steps > 0:
        _check(validation, config.image_side, "validation")
        return _fitted(config, network, _metrics(_distil(config, network, images, validation, seed, session)))
    return _fitted(config, network, {})


def _distil(
    config: BackboneConfig, network: Hybrid | Plain, images: Rows, validation: Rows, seed: int, session: Session
) -> History:
    teacher = imagenet(config.patch, deep=True)
    pixels = isinstance(network, Plain)
    side, smallest = config.crop_side, config.crop_scale
    train = draw_pool(images, config.crops, side, smallest, teacher, pixels, seed)
    few = min(VALIDATION_CROPS, config.crops)
    held_out = draw_pool(validation, few, side, smallest, teacher, pixels, seed + 1)
    return pretrain(network, train, held_out, config, seed, session)


def _check(images: Rows, side: int, which: str) -> None:
    if len(images) == 0:
        raise UserError(f"the backbone needs at least one normal {which} image, there is none; add images")
    if images.shape[1:] != (side, side, 3):
        raise UserError(f"backbone.image_side is {side}, the {which} images are {images.shape[1:]}; resize them to it")


def _fitted(config: BackboneConfig, network: nn.Module, metrics: dict[str, Any]) -> Fitted:
    arrays = {name: np.array(value.detach().cpu().numpy()) for name, value in network.state_dict().items()}
    architecture = architecture_of(config)
    info = {
        "architecture": architecture,
        "digest": digest_of(arrays, architecture),
        "image_side": config.image_side,
        "grid": list(network.grid) if isinstance(network, TimmVit) else [config.image_side // config.patch] * 2,
        "channels": network.channels if isinstance(network, TimmVit) else _channels(network),
        "heads": network.heads if isinstance(network, TimmVit) else (0 if config.model == "cnn" else config.heads),
    }
    return Fitted(arrays, info, metrics)


def _channels(network: nn.Module) -> int:
    if isinstance(network, Cnn):
        return network.standardise.mean.numel()
    if isinstance(network, Plain):
        return network.trunk.class_token.numel()
    raise TypeError(type(network))


def _metrics(history: History) -> dict[str, Any]:
    kept = history.epochs[history.best_epoch]
    return {
        **{name: kept[name] for name in ("val_loss", "val_patch", "val_class", "train_loss")},
        "best_epoch": history.best_epoch,
        "curve": [{name: epoch[name] for name in ("train_loss", "val_loss", "val_class")} for epoch in history.epochs],
    }
