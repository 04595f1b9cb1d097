"""Parameters: refused values name themselves; the module loads without torch."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from stages.backbone.config import BackboneConfig
from stages.backbone.objectives.config import DinoConfig, MfmConfig, SdsslConfig, SelfpatchConfig
from stages.types import Config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": "resnet"}, "model"),
        ({"model": "timm:"}, "model"),
        ({"image_side": 100}, "image_side 100 is not a multiple of 32"),
        ({"crop_side": 40}, "crop_side 40 is not a multiple of 32"),
        ({"heads": 3}, "176 channels of model `hybrid` are not a multiple of heads 3"),
        ({"model": "plain", "heads": 5}, "192 channels of model `plain` are not a multiple of heads 5"),
        ({"checkpoint": "a.pth"}, "checkpoint is read only with `timm:NAME` and `cnn:NAME`, the model is `hybrid`"),
        ({"model": "cnn:"}, "model"),
        ({"blocks": (0,)}, "blocks"),
        ({"blocks": (1, 5)}, "block 5 is beyond depth 4 of model `hybrid`"),
        ({"model": "cnn", "blocks": (1,)}, r"blocks \[1\]: model `cnn` has no transformer blocks"),
        ({"blocks": (2, 1)}, "ascending order, each block once"),
        ({"model": "cnn:resnet18", "blocks": (1,)}, r"blocks \[1\]: model `cnn:resnet18` has no transformer blocks"),
        ({"strides": ()}, "strides"),
        ({"strides": (16, 8)}, r"strides \[16, 8\] must be in ascending order"),
        ({"strides": (8, 8)}, r"strides \[8, 8\] must be in ascending order"),
        ({"teacher_checkpoint": "a.pth"}, "teacher_checkpoint is read only with teacher `timm:NAME`"),
        ({"teacher": "resnet18"}, "teacher"),
        ({"objective": "dino", "batch": 1}, "batch 1 cannot hold two views of an image, which `dino` compares"),
        ({"objective": "dino", "dino": {"local_scale": 0.5}}, "dino.local_scale 0.5 is more than crop_scale 0.3"),
        ({"dino": {"local_views": 9}}, "local_views 9 are more than local_pool 8"),
        ({"dino": {"local_side": 80}}, "local_side 80 is not a multiple of 32"),
        ({"objective": "sdssl", "depth": 2, "sdssl": {"first_block": 2}}, "leaves no block before the last of depth 2"),
        ({"mfm": {"radius": 0.6}}, "radius"),
        ({"steps": -1}, "steps"),
        ({"mask_fraction": 1.0}, "mask_fraction"),
        ({"patch": 14}, "patch"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_values_that_do_not_fit_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        BackboneConfig(**values)


def test_a_timm_model_is_one_line() -> None:
    assert BackboneConfig(model="timm:vit_small_patch14_dinov2.lvd142m", image_side=224).model.startswith("timm:")


@pytest.mark.parametrize("config", [BackboneConfig, DinoConfig, SelfpatchConfig, SdsslConfig, MfmConfig])
def test_every_field_says_what_it_is(config: type[Config]) -> None:
    assert [name for name, field in config.model_fields.items() if not field.description] == []


def test_the_rate_goes_with_the_objective_unless_it_is_given() -> None:
    assert (BackboneConfig().rate, BackboneConfig(objective="dino").rate) == (3e-3, 5e-4)
    assert BackboneConfig(objective="sdssl", lr=0.02).rate == 0.02


def test_the_parameters_load_without_torch() -> None:
    code = "import sys, stages.backbone.config; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
