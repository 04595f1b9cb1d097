"""A configuration so small that thirty steps take a second."""

from __future__ import annotations

from typing import Any

from stages.backbone.config import BackboneConfig
from stages.backbone.networks.vit import Hybrid, Plain
from tests.stages.backbone.conftest import small

VIEWS: dict[str, Any] = {
    "local_side": 32,
    "local_scale": 0.4,
    "local_pool": 3,
    "local_views": 2,
    "prototypes": 64,
    "hidden": 64,
    "bottleneck": 64,
    "jitter": 0.1,
    "blur": 0.0,
}


def tiny(model: str, objective: str, **changes: Any) -> BackboneConfig:
    """`changes` of sections are merged into them."""
    sections: dict[str, Any] = {"dino": VIEWS, "selfpatch": {"prototypes": 64}, "sdssl": {}, "mfm": {}}
    merged = {name: {**values, **changes.pop(name, {})} for name, values in sections.items()}
    plain = {"model": model, "objective": objective, "crop_scale": 0.6, "crops": 16, "batch": 8}
    return small(**{**plain, **merged, **changes})


def network_of(config: BackboneConfig) -> Hybrid | Plain:
    return Plain(config) if config.model == "plain" else Hybrid(config)
