"""Parameters: refused values name themselves; the module loads without torch."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from stages.backbone.config import BackboneConfig


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": "resnet"}, "model"),
        ({"model": "timm:"}, "model"),
        ({"image_side": 100}, "image_side 100 is not a multiple of 32"),
        ({"crop_side": 40}, "crop_side 40 is not a multiple of 32"),
        ({"heads": 3}, "176 channels of model `hybrid` are not a multiple of heads 3"),
        ({"model": "plain", "heads": 5}, "192 channels of model `plain` are not a multiple of heads 5"),
        ({"checkpoint": "a.pth"}, "checkpoint is read with models `timm:NAME` and `cnn:NAME`, the model is `hybrid`"),
        ({"model": "cnn:"}, "model"),
        ({"block": 0}, "block"),
        ({"block": 5}, "block 5 is beyond depth 4 of model `hybrid`"),
        ({"model": "cnn", "block": 1}, "block 1: model `cnn` has no transformer blocks"),
        ({"model": "cnn:resnet18", "block": 1}, "block 1: model `cnn:resnet18` has no transformer blocks"),
        ({"strides": ()}, "strides"),
        ({"strides": (16, 8)}, r"strides \[16, 8\] are not in ascending order"),
        ({"strides": (8, 8)}, r"strides \[8, 8\] are not in ascending order"),
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


def test_every_field_says_what_it_is() -> None:
    assert [name for name, field in BackboneConfig.model_fields.items() if not field.description] == []


def test_the_parameters_load_without_torch() -> None:
    code = "import sys, stages.backbone.config; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
