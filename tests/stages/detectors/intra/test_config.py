"""What the configuration accepts, and how it says no."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from pydantic import ValidationError

from pipeline.project.profiles import PROFILES
from stages.detectors.intra.config import IntraConfig
from stages.types import UserError


@pytest.mark.parametrize(
    ("changes", "values"),
    [
        (
            {"space": "pixels", "image_side": 128, "patch_side": 12, "window_side": 5},
            ("128", "12", "take patch_side 16 "),
        ),
        ({"space": "pixels", "image_side": 64, "patch_side": 8, "window_side": 9}, ("9", "8")),
        ({"token_side": 224, "patch_cells": 8, "window_side": 5}, ("28 x 28 tokens", "8", "take patch_cells 4 ")),
        ({"window_side": 9}, ("9", "grid of 8", "patch_cells 4")),
        ({"width": 60, "heads": 4}, ("60", "4")),
        ({"smoothing_side": 4}, ("4", "odd")),
        ({"image_side": 16, "patch_side": 2, "smoothing_side": 33}, ("33", "16")),
    ],
)
def test_a_clash_of_two_values_names_both(changes: dict[str, int], values: tuple[str, str]) -> None:
    with pytest.raises(UserError) as error:
        IntraConfig(**changes)
    for value in values:
        assert value in str(error.value)


@pytest.mark.parametrize("changes", [{"blocks": 0}, {"lr": 0}, {"alpha": -1}, {"schedule": "step"}, {"colour": True}])
def test_a_value_out_of_range_or_an_unknown_key_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        IntraConfig(**changes)


def test_every_field_is_documented() -> None:
    assert not [
        name for name, field in IntraConfig.model_fields.items() if not field.description and name != "image_side"
    ]


def test_the_papers_network_is_reached_by_parameters_alone() -> None:
    from stages.detectors.intra.model import InpaintingTransformer

    config = IntraConfig(**PROFILES["paper"]["intra"])
    with torch.device("meta"):
        network = InpaintingTransformer(config, config.canvas((256, 256, 3)))
    d, p = 512, 16 * 16 * 3
    reduce = (d * 2 * d + 2 * d) + (2 * d * (d // 2) + d // 2)
    block = 2 * reduce + 2 * (d * d + d) + (d * 4 * d + 4 * d) + (4 * d * d + d) + 2 * 2 * d
    expected = p * d + 256 * d + d + 13 * block + (d * p + p)
    assert sum(value.numel() for value in network.parameters()) == expected


def test_the_configuration_does_not_import_torch() -> None:
    code = "import sys, stages.detectors.intra.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
