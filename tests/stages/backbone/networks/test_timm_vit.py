"""ViTs of timm: tokens and class attention of each block against plain computation, other sides, no network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from stages.backbone.build import build
from stages.backbone.config import BackboneConfig
from stages.backbone.networks import timm_models
from stages.backbone.networks.load import load, network_for, pretrained
from stages.backbone.networks.timm_vit import TimmVit
from stages.training import Session
from stages.types import UserError
from tests.reference.backbone_features import attend
from tests.stages.backbone.conftest import textures

TINY = "test_vit"  # of timm: 64 channels, 6 blocks, 2 heads, a class token


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    network: Any = network_for(config(None, side=160)).vit
    return {name: value + 0.02 * torch.randn_like(value) for name, value in network.state_dict().items()}


@pytest.fixture
def checkpoint(tmp_path: Path, weights: dict[str, torch.Tensor]) -> Path:
    save_file(weights, tmp_path / "tiny.safetensors")
    return tmp_path / "tiny.safetensors"


def config(checkpoint: Path | None, name: str = TINY, side: int = 64, **more: Any) -> BackboneConfig:
    file = None if checkpoint is None else str(checkpoint)
    return BackboneConfig(model=f"timm:{name}", image_side=side, checkpoint=file, **more)


def vit(name: str, side: int, **more: Any) -> TimmVit:
    network = network_for(config(None, name, side, **more))
    assert isinstance(network, TimmVit)
    return network


@pytest.mark.parametrize(
    ("name", "prefix", "block"),
    [(TINY, 1, None), (TINY, 1, 6), (TINY, 1, 2), (TINY, 1, 1), ("vit_small_patch14_reg4_dinov2", 5, 2)],
)
def test_class_attention_is_the_softmax_of_the_block(name: str, prefix: int, block: int | None) -> None:
    side = 56 if prefix == 5 else 64
    network, whole = vit(name, side, blocks=None if block is None else (block,)), vit(name, side)
    model: Any = whole.vit
    last = (block or len(model.blocks)) - 1
    assert network.blocks == (last + 1,) and len(network.vit.blocks) == last + 1
    caught: list[torch.Tensor] = []
    model.blocks[last].attn.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
    images = torch.from_numpy(textures(1, 0)[:, :side, :side]).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        tokens, attention = network(images)
        x = (images - network.mean[:, None, None]) / network.spread[:, None, None]
        x = model.norm_pre(model._pos_embed(model.patch_embed(x)))
        for each in model.blocks[: last + 1]:
            x = each(x)
        n = caught[0].shape[1]
        q, k, v = model.blocks[last].attn.qkv(caught[0])[0].reshape(n, 3, network.heads, -1).unbind(1)
        expected = torch.stack([attend(q[:, h], k[:, h], v[:, h])[1][0, prefix:] for h in range(network.heads)])
    assert attention is not None and n == prefix + network.grid[0] * network.grid[1]
    torch.testing.assert_close(attention[0].flatten(1), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(tokens[0].flatten(1).T, model.norm(x)[0, prefix:])


@pytest.mark.parametrize("name", ["eva02_tiny_patch14_224", "vit_tiny_patch16_dinov3_qkvb"])
def test_rotary_models_give_the_attention_that_they_use(name: str) -> None:
    """Without the hook they run the fused kernel: the same tokens, and weights that mix values to the same output."""
    side = 64 if "16" in name else 56
    network, plain = vit(name, side, blocks=(3,)), vit(name, side)
    attention_layer: Any = network.vit.blocks[-1].attn
    values: list[torch.Tensor] = []
    attention_layer.attn_drop.register_forward_hook(lambda _, __, weights: values.append(weights))
    images = torch.from_numpy(textures(1, 0)[:, :side, :side]).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        tokens, attention = network(images)
        pixels = (images - plain.mean[:, None, None]) / plain.spread[:, None, None]
        plain.vit.blocks[-1].attn.fused_attn = True
        (fused,) = plain.vit.forward_intermediates(pixels, indices=[2], norm=True, intermediates_only=True)
    fused = plain.vit.fc_norm(fused.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    torch.testing.assert_close(tokens, fused, atol=1e-4, rtol=1e-4)
    assert attention is not None
    torch.testing.assert_close(attention, values[0][:, :, 0, network.prefix_tokens :].reshape(attention.shape))
    sums = attention.sum((2, 3))
    assert bool(((sums > 0) & (sums < 1)).all())


@pytest.mark.parametrize("name", ["test_vit2", "test_vit3"])
def test_without_a_class_token_there_is_no_attention_but_a_final_norm(name: str) -> None:
    network = vit(name, 64)
    tokens, attention = network(torch.rand(1, 3, 64, 64) * 255)
    assert attention is None and network.heads == 0
    torch.testing.assert_close(tokens.mean(1), torch.zeros(1, 4, 4), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["safetensors", "pth", "wrapped"])
def test_a_local_checkpoint_becomes_the_backbone(kind: str, tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    path = tmp_path / ("weights.safetensors" if kind == "safetensors" else "weights.pth")
    if kind == "safetensors":
        save_file(weights, path)
    else:
        torch.save({"state_dict": weights} if kind == "wrapped" else weights, path)
    fitted = build(config(path), textures(1, 0), textures(1, 0), 0, Session())
    assert np.array_equal(fitted.arrays["vit.blocks.3.attn.qkv.weight"], weights["blocks.3.attn.qkv.weight"].numpy())
    assert fitted.arrays["vit.pos_embed"].shape != tuple(weights["pos_embed"].shape)  # 160 px of old, 64 px now
    backbone, images = load(fitted, "cpu"), textures(3, 0)
    features = backbone.extract(images)
    assert features.tokens.shape == (3, 4, 4, 64) and features.attention is not None
    assert features.tokens[2].tobytes() == backbone.extract(images[2:]).tokens[0].tobytes()
    assert features.attention[2].tobytes() == backbone.extract(images[2:]).attention[0].tobytes()  # type: ignore[index]


def test_the_digest_follows_the_checkpoint_and_not_its_name(checkpoint: Path, weights: dict[str, torch.Tensor]) -> None:
    first = build(config(checkpoint), textures(1, 0), textures(1, 0), 0, Session()).info["digest"]
    moved = checkpoint.rename(checkpoint.with_name("moved.safetensors"))
    assert build(config(moved), textures(1, 0), textures(1, 0), 0, Session()).info["digest"] == first
    save_file({name: value + 1e-3 for name, value in weights.items()}, moved)
    assert build(config(moved), textures(1, 0), textures(1, 0), 0, Session()).info["digest"] != first


@pytest.mark.parametrize("name", [TINY, "deit3_small_patch16_224", "vit_small_patch14_reg4_dinov2"])
@pytest.mark.parametrize("factor", [0.5, 2])
def test_a_position_embedding_of_another_side_is_resampled(name: str, factor: float, tmp_path: Path) -> None:
    """As Pillow resizes pictures: bicubic, antialiased. Prefix tokens keep theirs."""
    patch = 14 if "14" in name else 16
    trained = vit(name, 8 * patch).vit.state_dict()
    torch.manual_seed(2)
    trained["pos_embed"] = torch.randn_like(trained["pos_embed"])
    save_file({n: v.contiguous() for n, v in trained.items()}, tmp_path / "a.safetensors")
    side = int(8 * factor)
    result: Any = pretrained(config(tmp_path / "a.safetensors", name, side * patch))
    kept = int(name == TINY)  # the others' embedding has no prefix
    before, after = trained["pos_embed"][0], result.vit.pos_embed.detach()[0]
    assert result.grid == (side, side) and after.shape[0] == kept + side * side
    assert torch.equal(after[:kept], before[:kept])
    for channel in (0, 5):
        picture = Image.fromarray(before[kept:, channel].reshape(8, 8).numpy(), mode="F")
        expected = np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC))
        np.testing.assert_allclose(after[kept:, channel].reshape(side, side).numpy(), expected, atol=1e-4)


def test_rotary_positions_follow_the_side() -> None:
    small, large = (vit("vit_tiny_patch16_dinov3_qkvb", side) for side in (64, 128))
    images = torch.from_numpy(textures(1, 0, 128)).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        assert small(images[..., :64, :64])[0].shape == (1, 192, 4, 4)
        assert large(images)[0].shape == (1, 192, 8, 8)


def no_network(*_: Any, **__: Any) -> Any:
    raise OSError("no network")


def test_without_a_network_the_two_ways_out_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timm_models, "_cached", lambda settings: None)
    monkeypatch.setattr(huggingface_hub, "get_session", no_network)
    with pytest.raises(UserError, match=r"cannot be reached.*backbone\.checkpoint .*backbone\.model to `hybrid`"):
        build(config(None), textures(1, 0), textures(1, 0), 0, Session())


def test_a_download_that_fails_names_them_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy may answer in place of the hub."""
    monkeypatch.setattr(timm_models, "_cached", lambda settings: None)
    monkeypatch.setattr(timm_models, "_check_reachable", lambda *_: None)
    monkeypatch.setattr(timm_models._builder, "load_state_dict_from_hf", no_network)
    with pytest.raises(
        UserError, match=r"cannot be loaded \(no network\).*backbone\.checkpoint .*backbone\.model to `hy"
    ):
        build(config(None), textures(1, 0), textures(1, 0), 0, Session())
    assert timm_models._builder.load_pretrained.__module__ == "timm.models._builder"  # given back


def test_what_the_hub_keeps_on_disk_needs_no_network(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda repo, file: str(checkpoint))
    monkeypatch.setattr(huggingface_hub, "get_session", no_network)
    assert build(config(None), textures(1, 0), textures(1, 0), 0, Session()).info["heads"] == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "timm:vit_tiny_patch99"}, "timm has no model `vit_tiny_patch99`; similar names are vit_"),
        ({"image_side": 72}, "72 is not a multiple of the patch size 16"),
        ({"model": "timm:vit_small_patch14_dinov2"}, "64 is not a multiple of the patch size 14"),
        ({"blocks": (3, 7)}, r"backbone\.blocks: 7 is beyond the 6 blocks of `test_vit`"),
        ({"model": "cnn:test_vit"}, "`test_vit` is a ViT, not a convolutional network; write `timm:test_vit`"),
        ({"model": "timm:test_vit.no_such_tag"}, "timm cannot make `test_vit.no_such_tag` at side 64"),
    ],
)
def test_names_sides_and_blocks_that_do_not_fit_are_told(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        network_for(BackboneConfig(**{"model": f"timm:{TINY}", "image_side": 64, **changes}))


@pytest.mark.parametrize("model", ["timm:test_vit", "timm:vit_small_patch14_reg4_dinov2"])
def test_the_interface_tells_what_the_model_is(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.backbone.build.pretrained", network_for)  # random weights
    side = 56 if "14" in model else 64
    fitted = build(
        BackboneConfig(model=model, image_side=side, blocks=(2,)), textures(1, 0), textures(1, 0), 0, Session()
    )
    assert fitted.info["architecture"] == {"model": model, "image_side": side, "blocks": [2], "join_blocks": "average"}
    backbone = load(fitted, "cpu")
    assert (backbone.blocks, backbone.patch_size) == ((2,), side // 4)
    assert (backbone.prefix_tokens, backbone.registers) == ((5, 4) if "reg4" in model else (1, 0))
    expected = (0.485, 0.456, 0.406) if "reg4" in model else (0.5, 0.5, 0.5)
    np.testing.assert_allclose(backbone.mean, expected, atol=1e-6)
    np.testing.assert_allclose(backbone.std, (0.229, 0.224, 0.225) if "reg4" in model else (0.5,) * 3, atol=1e-6)
