"""Feature maps of networks of timm: the stack against plain computation, standardised; what does not fit is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import stages.torch_setup  # noqa: F401  (before timm)

import timm  # isort: skip

from stages.backbone.build import build
from stages.backbone.config import BackboneConfig, DistillConfig
from stages.backbone.distill import distill
from stages.backbone.networks.crops import to_pixels
from stages.backbone.networks.feature_map import FeatureMap, check_map
from stages.backbone.networks.lite0 import _renamed
from stages.backbone.networks.load import load, network_for, pretrained
from stages.training import Session
from stages.types import Fitted, UserError
from tests.reference.backbone_features import cnn_stack
from tests.stages.backbone.conftest import textures

LITE = "tf_efficientnet_lite0"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ImageNet's, of a package, as a file of timm's model with its classes."""
    path = tmp_path_factory.mktemp("weights") / "lite0.safetensors"
    model = timm.create_model(LITE)
    save_file({n: v.contiguous() for n, v in {**model.state_dict(), **_renamed(model, "lite0")}.items()}, path)
    return path


def config(model: str, weights: Path | None = None, **more: Any) -> BackboneConfig:
    return BackboneConfig(**{"image_side": 64, **more}, model=model, checkpoint=weights and str(weights))


def fitted(weights: Path, **more: Any) -> Fitted:
    side = more.get("image_side", 64)
    images = textures(4, 0, side)
    return build(config(f"cnn:{LITE}", weights, **more), images, images[:0], 0, Session())


def test_the_stack_of_a_network_of_timm_is_that_of_our_own(weights: Path) -> None:
    """The same network unfolded, and with timm's normalisation: (x / 255 - 0.5) / 0.5, ours is (x - 127) / 128."""
    network = pretrained(config(f"cnn:{LITE}", weights))
    assert isinstance(network, FeatureMap)
    image = textures(1, 3)
    pixels = (to_pixels(image) - 127) / 128 * 127.5 + 127.5  # so that both networks read the same numbers
    with torch.inference_mode():
        result = network.stack(pixels)[0].numpy()
    np.testing.assert_allclose(result, cnn_stack(image[0], 16, zeros=False)[0], atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "layers"), [("resnet18", "layer"), ("gcvit_xxtiny", "stages"), ("convnext_atto", "stages")]
)
def test_maps_are_what_the_stages_give(name: str, layers: str) -> None:
    network: Any = network_for(config(f"timm:{name}", strides=(8, 32), patch=8))
    caught: dict[int, torch.Tensor] = {}
    for place in (1, 3):
        stage = getattr(network.model, f"layer{place + 1}") if layers == "layer" else network.model.stages[place]
        stage.register_forward_hook(lambda _, __, out, place=place: caught.update({place: out}))
    with torch.inference_mode():
        tokens, attention = network(torch.rand(2, 3, 64, 64) * 255)
    assert attention is None and tokens.shape[2:] == (8, 8)
    fine, coarse = caught[1].double().numpy(), caught[3].double()
    padded = np.pad(fine, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))  # (B, c, 8, 8, 3, 3)
    np.testing.assert_allclose(
        tokens[:, : fine.shape[1]].numpy(), np.nanmean(windows, axis=(4, 5)), atol=1e-4, rtol=1e-4
    )
    # 2 x 2 maps: every 3 x 3 mean is that of the whole map
    whole = coarse.mean((2, 3))[:, :, None, None].expand(-1, -1, 8, 8)
    np.testing.assert_allclose(tokens[:, fine.shape[1] :].numpy(), whole.numpy(), atol=1e-4, rtol=1e-4)


def test_what_is_behind_the_last_map_is_dropped() -> None:
    names = network_for(config("cnn:resnet18", strides=(4, 8))).state_dict()
    assert any(n.startswith("model.layer2.") for n in names)
    assert not any(n.startswith(("model.layer3.", "model.layer4.", "model.fc.")) for n in names)


def test_tokens_are_standardised_over_the_training_images(weights: Path) -> None:
    tokens = load(fitted(weights), "cpu").extract(textures(4, 0)).tokens.reshape(-1, 176)
    np.testing.assert_allclose(tokens.mean(0), 0, atol=1e-2)
    np.testing.assert_allclose(np.median(tokens.std(0)), 1, atol=1e-2)


def test_what_is_saved_is_what_was_built(weights: Path) -> None:
    one, two = fitted(weights), fitted(weights)
    assert one.info == two.info and one.info["heads"] == 0 and one.info["grid"] == [4, 4]
    assert one.info["architecture"] == {"model": f"cnn:{LITE}", "image_side": 64, "patch": 16, "strides": [4, 8, 16]}
    backbone, images = load(one, "cpu"), textures(3, 1)
    features = backbone.extract(images)
    assert features.attention is None and features.tokens.shape == (3, 4, 4, 176)
    assert features.tokens[2].tobytes() == backbone.extract(images[2:]).tokens[0].tobytes()
    assert (backbone.blocks, backbone.prefix_tokens, backbone.registers, backbone.patch_size) == (None, 0, 0, 16)
    assert (backbone.mean, backbone.std) == ((0.5,) * 3, (0.5,) * 3)


@pytest.mark.parametrize("changes", [{"strides": (8, 16)}, {"patch": 8}, {"image_side": 96}])
def test_every_field_changes_the_features(changes: dict[str, Any], weights: Path) -> None:
    other, before = fitted(weights, **changes), fitted(weights)
    assert other.info["digest"] != before.info["digest"]
    assert load(other, "cpu").extract(textures(1, 2, other.info["image_side"])).tokens.shape != (1, 4, 4, 176)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "cnn:resnet18", "strides": (8, 12)}, r"has no feature map of stride 12; choose among \[2, 4"),
        ({"model": "timm:samvit_base_patch16_224"}, r"no feature map of stride 4; choose among \[16\]"),
        ({"model": "timm:gcvit_xxtiny", "blocks": (2,)}, r"backbone\.blocks: `gcvit_xxtiny` is read by"),
        ({"model": "cnn:resnet18", "image_side": 72}, r"image_side: 72 is not a multiple of backbone\.patch 16"),
        ({"model": "cnn:test_vit"}, "write `timm:test_vit`"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        network_for(BackboneConfig(**{"image_side": 64, **changes}))


def test_a_model_with_neither_tokens_nor_maps_is_told() -> None:
    with pytest.raises(UserError, match="`odd` of timm gives neither patch tokens nor feature maps; choose"):
        check_map(nn.Identity(), "odd", 64, 16, (8,))


def test_a_table_of_another_side_says_which_side_it_fits(tmp_path: Path) -> None:
    trained: Any = timm.create_model("gcvit_xxtiny", img_size=224)
    save_file(trained.state_dict(), tmp_path / "a.safetensors")
    pretrained(config("timm:gcvit_xxtiny", tmp_path / "a.safetensors", image_side=224))
    with pytest.raises(
        UserError, match=r"relative_position_bias_table is \(169, 2\) in the file, .* backbone\.image_side to 224"
    ):
        pretrained(config("timm:gcvit_xxtiny", tmp_path / "a.safetensors"))


def test_a_network_without_its_classes_must_be_whole(weights: Path, tmp_path: Path) -> None:
    state = {n: v.contiguous() for n, v in timm.create_model(LITE).state_dict().items()}
    del state["blocks.2.0.bn1.running_var"], state["blocks.0.0.bn1.num_batches_tracked"]
    save_file(state, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=r"lacks 1 of \d+ weights \(blocks\.2\.0\.bn1\.running_var\)"):
        pretrained(config(f"cnn:{LITE}", tmp_path / "a.safetensors"))


def test_distillation_says_that_there_is_nothing_to_learn_with(weights: Path) -> None:
    images = textures(2, 0)
    with pytest.raises(UserError, match=f"distill: backbone `cnn:{LITE}` has no position embedding"):
        distill(fitted(weights), lambda x: x, images, images, DistillConfig(epochs=1), 0, Session())


def test_images_that_do_not_fit_are_told(weights: Path) -> None:
    with pytest.raises(UserError, match="at least one good training image"):
        build(config(f"cnn:{LITE}", weights), textures(0, 0), textures(0, 0), 0, Session())
