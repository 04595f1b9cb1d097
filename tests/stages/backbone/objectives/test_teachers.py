"""The frozen CNNs that `distill` learns from: what they give, and what is told when they cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import stages.torch_setup  # noqa: F401  (before timm)

import timm  # isort: skip
from sklearn.datasets import load_sample_image

from stages.backbone.build import build
from stages.backbone.networks import lite0
from stages.backbone.networks.crops import to_pixels
from stages.backbone.networks.lite0 import imagenet
from stages.backbone.objectives.teachers import teacher_for
from stages.training import Session
from stages.types import UserError
from tests.stages.backbone.conftest import textures
from tests.stages.backbone.objectives.conftest import tiny

BUILDINGS = {442, 663, 698}
"""Bell cote, monastery, palace."""


@pytest.mark.parametrize("name", ["lite1", "lite2"])
def test_the_weights_know_a_photograph(name: str) -> None:
    network = timm.create_model(f"tf_efficientnet_{name}").eval()
    network.load_state_dict(lite0._renamed(network, name), strict=False)
    pixels = torch.nn.functional.interpolate(to_pixels(load_sample_image("china.jpg")[None]), (240, 240))
    with torch.no_grad():
        assert int(network((pixels - 127) / 128).argmax()) in BUILDINGS


@pytest.mark.parametrize(("name", "channels"), [("lite0", 320), ("lite1", 320), ("lite2", 352)])
def test_a_lite_teacher_gives_the_last_stage_of_timms_own(name: str, channels: int) -> None:
    crop = to_pixels(textures(1, 0))
    whole = timm.create_model(f"tf_efficientnet_{name}", features_only=True, out_indices=(4,)).eval()
    weights = lite0._renamed(timm.create_model(f"tf_efficientnet_{name}"), name)
    whole.load_state_dict({k: v for k, v in weights.items() if k in whole.state_dict()}, strict=False)
    with torch.no_grad():
        result = teacher_for(tiny("plain", "distill", teacher=name))(crop)
        expected = whole((crop - 127) / 128)[0]
    assert result.shape == (1, channels, 2, 2)
    torch.testing.assert_close(result, expected, atol=2e-4, rtol=1e-3)


def test_another_order_of_the_same_shapes_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    saved = torch.load(lite0._weights_file("lite1"), weights_only=True)
    names = list(saved)
    place = next(i for i, name in enumerate(names) if name.endswith("running_mean"))
    names[place], names[place + 1] = names[place + 1], names[place]  # mean and variance: the same shape
    monkeypatch.setattr(lite0.torch, "load", lambda *_, **__: {name: saved[name] for name in names})
    with pytest.raises(UserError, match=r"do not match the .* of tf_efficientnet_lite1 in order, name and shape"):
        imagenet(16, True, "lite1")


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    torch.manual_seed(5)
    network = timm.create_model("resnet10t").eval()
    path = tmp_path_factory.mktemp("weights") / "resnet.safetensors"
    save_file(network.state_dict(), path)
    return path, network


def test_a_timm_teacher_from_a_file_gives_that_networks_features(resnet: tuple[Path, Any]) -> None:
    path, network = resnet
    crop = to_pixels(textures(1, 0))
    teacher = teacher_for(tiny("plain", "distill", teacher="timm:resnet10t", teacher_checkpoint=str(path)))
    mean, spread = (255 * np.array(network.pretrained_cfg[key])[:, None, None] for key in ("mean", "std"))
    with torch.no_grad():
        expected = network.forward_features(((crop - mean) / spread).float())
        result = teacher(crop)
    assert result.shape == (1, 512, 2, 2)
    torch.testing.assert_close(result, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("model", ["hybrid", "plain"])
def test_the_teacher_changes_the_weights(model: str, resnet: tuple[Path, Any]) -> None:
    teachers: list[dict[str, Any]] = [
        {"teacher": "lite0"},
        {"teacher": "lite2"},
        {"teacher": "timm:resnet10t", "teacher_checkpoint": str(resnet[0])},
    ]
    result = [
        build(tiny(model, "distill", crops=4, batch=2, steps=1, **one), textures(2, 0), textures(1, 1), 0, Session())
        for one in teachers
    ]
    assert len({one.info["digest"] for one in result}) == 3
    if model == "hybrid":
        assert len({one.arrays["standardise.mean"].tobytes() for one in result}) == 1  # its own CNN stays Lite0


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ("timm:resnet18x", r"backbone.teacher: timm has no model `resnet18x`; similar names are .*resnet18"),
        (
            "timm:vit_tiny_patch16_224",
            r"backbone.teacher: `vit_tiny_patch16_224` of timm gives features \(1, 17, 192\)",
        ),
    ],
)
def test_what_cannot_teach_is_told(teacher: str, message: str, resnet: tuple[Path, Any]) -> None:
    with pytest.raises(UserError, match=message):
        teacher_for(tiny("plain", "distill", teacher=teacher, teacher_checkpoint=str(resnet[0])))


def test_a_file_of_another_network_is_told(resnet: tuple[Path, Any]) -> None:
    config = tiny("plain", "distill", teacher="timm:resnet18", teacher_checkpoint=str(resnet[0]))
    with pytest.raises(UserError, match=r"backbone.teacher_checkpoint: .*resnet.safetensors is not of `resnet18`"):
        teacher_for(config)
    missing = tiny("plain", "distill", teacher="timm:resnet18", teacher_checkpoint="/nowhere.pth")
    with pytest.raises(UserError, match=r"backbone.teacher_checkpoint: there is no file /nowhere.pth"):
        teacher_for(missing)
