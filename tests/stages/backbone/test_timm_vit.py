"""Models of timm: tokens and class attention against plain computation, checkpoints, and no network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from stages.backbone import timm_vit
from stages.backbone.build import build
from stages.backbone.config import BackboneConfig
from stages.backbone.load import load
from stages.backbone.timm_vit import TimmVit, pretrained
from stages.training import Session
from stages.types import UserError
from tests.reference.backbone_features import attend
from tests.stages.backbone.conftest import textures

TINY = "test_vit"  # of timm: 64 channels, 6 blocks, 2 heads, a class token


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    network: Any = TimmVit(TINY, 160).vit
    return {name: value + 0.02 * torch.randn_like(value) for name, value in network.state_dict().items()}


@pytest.fixture
def checkpoint(tmp_path: Path, weights: dict[str, torch.Tensor]) -> Path:
    save_file(weights, tmp_path / "tiny.safetensors")
    return tmp_path / "tiny.safetensors"


def config(checkpoint: Path | None, name: str = TINY, side: int = 64) -> BackboneConfig:
    return BackboneConfig(
        model=f"timm:{name}", image_side=side, checkpoint=None if checkpoint is None else str(checkpoint)
    )


@pytest.mark.parametrize(("name", "prefix"), [(TINY, 1), ("vit_small_patch14_reg4_dinov2", 5)])
def test_class_attention_is_the_softmax_of_the_last_block(name: str, prefix: int) -> None:
    network = TimmVit(name, 56 if prefix == 5 else 64).eval()
    vit: Any = network.vit
    caught: list[torch.Tensor] = []
    vit.blocks[-1].attn.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
    side = network.grid[0] * vit.patch_embed.patch_size[0]
    images = torch.from_numpy(textures(1, 0)[:, :side, :side]).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        tokens, attention = network(images)
        n = caught[0].shape[1]
        q, k, v = vit.blocks[-1].attn.qkv(caught[0])[0].reshape(n, 3, network.heads, -1).unbind(1)
        expected = torch.stack([attend(q[:, h], k[:, h], v[:, h])[1][0, prefix:] for h in range(network.heads)])
        all_tokens = vit.forward_features((images - network.mean[:, None, None]) / network.spread[:, None, None])
    assert attention is not None and n == prefix + network.grid[0] * network.grid[1]
    torch.testing.assert_close(attention[0].flatten(1), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(tokens[0].flatten(1).T, all_tokens[0, prefix:])


@pytest.mark.parametrize("name", ["test_vit2", "test_vit3"])
def test_without_a_class_token_there_is_no_attention_but_a_final_norm(name: str) -> None:
    network = TimmVit(name, 64).eval()
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


def test_checkpoints_that_do_not_fit_are_told(
    tmp_path: Path, checkpoint: Path, weights: dict[str, torch.Tensor]
) -> None:
    with pytest.raises(UserError, match=r"there is no file .*none\.pth"):
        pretrained(TINY, 64, str(tmp_path / "none.pth"))
    with pytest.raises(UserError, match="test_vit3"):
        pretrained("test_vit3", 64, str(checkpoint))
    torch.save({name: v for name, v in weights.items() if "blocks.5.mlp" not in name}, tmp_path / "part.pth")
    with pytest.raises(UserError, match=r"blocks\.5\.mlp"):
        pretrained(TINY, 64, str(tmp_path / "part.pth"))
    for name in ("cut.safetensors", "cut.pth"):
        (tmp_path / name).write_bytes(checkpoint.read_bytes()[:1000])
        with pytest.raises(UserError, match="cut"):
            pretrained(TINY, 64, str(tmp_path / name))


def test_a_pickle_with_code_is_not_run(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"w": Bomb()}, tmp_path / "bomb.pth")
    with pytest.raises(UserError, match=r"bomb\.pth"):
        pretrained(TINY, 64, str(tmp_path / "bomb.pth"))
    assert not (tmp_path / "ran").exists()


def no_network(*_: Any, **__: Any) -> Any:
    raise OSError("no network")


def test_without_a_network_the_two_ways_out_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timm_vit, "_cached", lambda settings: None)
    monkeypatch.setattr(huggingface_hub, "get_session", no_network)
    with pytest.raises(UserError, match=r"cannot be reached.*backbone\.checkpoint .*backbone\.model to `hybrid`"):
        build(config(None), textures(1, 0), textures(1, 0), 0, Session())


def test_what_the_hub_keeps_on_disk_needs_no_network(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda repo, file: str(checkpoint))
    monkeypatch.setattr(huggingface_hub, "get_session", no_network)
    assert build(config(None), textures(1, 0), textures(1, 0), 0, Session()).info["heads"] == 2


@pytest.mark.parametrize(
    ("name", "side", "message"),
    [
        ("vit_tiny_patch99", 64, "timm has no model `vit_tiny_patch99`; near are vit_"),
        ("resnet10t", 64, "`resnet10t` of timm is not a ViT"),
        (TINY, 72, "72 is not a multiple of the patch size 16"),
        ("vit_small_patch14_dinov2", 64, "64 is not a multiple of the patch size 14"),
    ],
)
def test_names_and_sides_that_do_not_fit_are_told(name: str, side: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        TimmVit(name, side)
