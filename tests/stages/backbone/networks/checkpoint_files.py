"""Tiny models of timm under their own names, for the tests of weights files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import stages.torch_setup  # noqa: F401  (before timm)

import timm  # isort: skip

from stages.backbone.config import BackboneConfig

State = dict[str, Tensor]
CREATE = timm.create_model
SIZES = {"embed_dim": 32, "depth": 4, "num_heads": 2}
NAMES = {  # layout -> the model whose files have it, and the side at which both are made
    "dino": ("vit_small_patch16_224.dino", 224),
    "dinov2": ("vit_small_patch14_dinov2.lvd142m", 518),
    "dinov2_reg": ("vit_small_patch14_reg4_dinov2.lvd142m", 518),
    "dinov2_giant": ("vit_giant_patch14_reg4_dinov2.lvd142m", 518),
    "mae": ("vit_base_patch16_224.mae", 224),
}


def weights(name: str, side: int) -> State:
    """Random weights of timm's model, in timm's names."""
    torch.manual_seed(3)
    model = timm.create_model(name, num_classes=0, img_size=side)
    return {n: v + 0.1 * torch.randn_like(v) for n, v in model.state_dict().items()}


def config(name: str, side: int, path: Path | None, **more: Any) -> BackboneConfig:
    return BackboneConfig(model=f"timm:{name}", image_side=side, checkpoint=path and str(path), **more)
