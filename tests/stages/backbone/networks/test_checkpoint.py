"""Original files of DINO, DINOv2 and MAE, written in their own names, give what the model gave; others are told."""

from __future__ import annotations

import argparse
import functools
import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import stages.torch_setup  # noqa: F401  (before timm)

import timm  # isort: skip

from stages.backbone.config import BackboneConfig
from stages.backbone.networks import checkpoint as files
from stages.backbone.networks.load import network_for, pretrained
from stages.types import UserError
from tests.stages.backbone.conftest import textures

State = dict[str, Tensor]
CREATE = timm.create_model
SIZES = {"embed_dim": 32, "depth": 4, "num_heads": 2}
NAMES = {  # the model whose files have this layout, and the side at which both are made
    "dino": ("vit_small_patch16_224.dino", 224),
    "dinov2": ("vit_small_patch14_dinov2.lvd142m", 518),
    "dinov2_reg": ("vit_small_patch14_reg4_dinov2.lvd142m", 518),
    "dinov2_giant": ("vit_giant_patch14_reg4_dinov2.lvd142m", 518),
    "mae": ("vit_base_patch16_224.mae", 224),
}


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models of timm by their own names, but of four narrow blocks."""
    monkeypatch.setattr(timm, "create_model", functools.partial(CREATE, **SIZES))


def weights(name: str, side: int) -> State:
    """Of timm's model, in timm's names, every one of them random."""
    torch.manual_seed(3)
    model = timm.create_model(name, num_classes=0, img_size=side)
    return {n: v + 0.1 * torch.randn_like(v) for n, v in model.state_dict().items()}


def outputs(model: Any, side: int) -> tuple[Tensor, Tensor | None]:
    images = torch.from_numpy(textures(2, 0, 560)[:, :side, :side]).permute(0, 3, 1, 2).float()
    with torch.inference_mode():
        tokens, attention = model(images)
    return tokens, attention


def config(name: str, side: int, path: Path | None, **more: Any) -> BackboneConfig:
    return BackboneConfig(model=f"timm:{name}", image_side=side, checkpoint=path and str(path), **more)


# --- timm's names to the original ones, by hand ---


def same(state: State) -> State:
    return dict(state)


def dinov2(state: State) -> State:
    return {**state, "mask_token": torch.zeros(1, 32)}


def dinov2_reg(state: State) -> State:
    """The class token's place is part of the position embedding, and the registers have another name."""
    theirs = dinov2(state)
    place = torch.full((1, 1, 32), 0.25)
    theirs["cls_token"] = state["cls_token"] - place
    theirs["pos_embed"] = torch.cat([place, state["pos_embed"]], dim=1)
    theirs["register_tokens"] = theirs.pop("reg_token")
    return theirs


def swiglu(state: State) -> State:
    theirs = dinov2_reg(state)
    return {n.replace("mlp.fc1", "mlp.w12").replace("mlp.fc2", "mlp.w3"): v for n, v in theirs.items()}


def chunked(state: State) -> State:
    """Two blocks a chunk, numbered through all of them."""
    return {re.sub(r"^blocks\.(\d+)", lambda m: f"blocks.{int(m[1]) // 2}.{m[1]}", n): v for n, v in state.items()}


def decoder(state: State) -> State:
    names = (
        "mask_token",
        "decoder_pos_embed",
        "decoder_embed.weight",
        "decoder_blocks.0.attn.qkv.weight",
        "decoder_norm.bias",
    )
    return {**state, **{name: torch.zeros(1, 3) for name in names}}


def below(prefix: str, state: State) -> State:
    return {f"{prefix}{n}": v for n, v in state.items()}


def teacher_and_student(prefix: str, state: State) -> dict[str, Any]:
    """What training DINO saves: two networks with heads, the parsed command line, an optimizer."""
    heads = {f"{prefix.removesuffix('backbone.')}head.mlp.0.weight": torch.ones(2, 2)}
    student = {**below("module.backbone.", {n: -v for n, v in state.items()}), **heads}
    teacher = {**below(prefix, state), **heads}
    more = {"args": argparse.Namespace(arch="vit_small"), "epoch": 7, "optimizer": {"state": {}, "param_groups": []}}
    return {"student": student, "teacher": teacher, **more}


def lightning(state: State) -> dict[str, Any]:
    return {"epoch": 3, "state_dict": {**below("net.backbone.", state), "net.head.weight": state["norm.bias"]}}


def dinov2_teacher(state: State) -> dict[str, Any]:
    return {"teacher": {**below("backbone.", chunked(dinov2(state))), "dino_head.mlp.0.bias": torch.ones(2)}}


def dinov2_training(state: State) -> dict[str, Any]:
    """Both networks side by side in one dictionary."""
    student = below("student.backbone.", {n: -v for n, v in dinov2(state).items()})
    return {"model": {**student, **below("teacher.backbone.", dinov2(state))}, "iteration": 5}


LAYOUTS: dict[str, tuple[str, Callable[[State], Any]]] = {
    "dino, the backbone alone": ("dino", same),
    "dino, teacher and student": ("dino", lambda s: teacher_and_student("backbone.", s)),
    "dino, both distributed": ("dino", lambda s: teacher_and_student("module.backbone.", s)),
    "dino, compiled and distributed": ("dino", lambda s: below("module._orig_mod.", s)),
    "lightning": ("dino", lightning),
    "dinov2": ("dinov2", dinov2),
    "dinov2, blocks in chunks": ("dinov2", lambda s: chunked(dinov2(s))),
    "dinov2, the teacher's file": ("dinov2", dinov2_teacher),
    "dinov2, all that is trained": ("dinov2", dinov2_training),
    "dinov2 with registers": ("dinov2_reg", dinov2_reg),
    "dinov2 with registers alone": (
        "dinov2_reg",
        lambda s: {n: v for n, v in dinov2_reg(s).items() if n[:4] != "mask"},
    ),
    "dinov2 giant, SwiGLU": ("dinov2_giant", lambda s: chunked(swiglu(s))),
    "mae": ("mae", lambda s: {"model": decoder(s)}),
    "mae, in half precision": ("mae", lambda s: {"model": {n: v.half() for n, v in s.items()}}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_original_file_gives_what_the_model_gave(layout: str, tmp_path: Path) -> None:
    kind, original = LAYOUTS[layout]
    name, side = NAMES[kind]
    state = weights(name, side)
    if "half" in layout:
        state = {n: v.half().float() for n, v in state.items()}
    expected = network_for(config(name, side, None))
    expected.vit.load_state_dict(state)
    torch.save(original(state), tmp_path / "original.pth")
    found = pretrained(config(name, side, tmp_path / "original.pth"))
    for ours, theirs in zip(outputs(found, side), outputs(expected, side), strict=True):
        assert ours is not None and theirs is not None
        # the class token's place is added in another order where registers are: the last bit of a sum
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5 if "reg" in kind or "giant" in kind else 0)


def test_a_norm_behind_averaging_goes_by_its_other_name(tmp_path: Path) -> None:
    """MAE's encoder has `norm`; a model that averages patches has `fc_norm` in its place; and the other way round."""
    average, token = "eva02_tiny_patch14_224.mim_in22k", "vit_base_patch16_224.mae"
    for name, other in ((average, "norm"), (token, "fc_norm")):
        side = 56 if "14" in name else 64
        state = weights(name, side)
        ours = "fc_norm" if other == "norm" else "norm"
        torch.save(
            {n.replace(f"{ours}.", f"{other}.") if n.startswith(ours) else n: v for n, v in state.items()},
            tmp_path / "a.pth",
        )
        found: Any = pretrained(config(name, side, tmp_path / "a.pth")).vit
        assert torch.equal(getattr(found, ours).weight, state[f"{ours}.weight"])


def test_only_the_blocks_that_are_read_are_kept(tmp_path: Path) -> None:
    name, side = NAMES["dino"]
    save_file(weights(name, side), tmp_path / "a.safetensors")
    network = pretrained(config(name, side, tmp_path / "a.safetensors", block=2))
    assert not any(n.startswith("vit.blocks.2") for n in network.state_dict())


# --- what does not fit ---


def changed(state: State, kind: str) -> Mapping[str, Any]:
    if kind == "cut":
        return {n: v for n, v in state.items() if not n.startswith("blocks.3.mlp")}
    if kind == "deeper":
        return {
            **state,
            **{n.replace("blocks.3.", "blocks.4."): v for n, v in state.items() if n.startswith("blocks.3.")},
        }
    if kind == "wider":
        return dict(CREATE(NAMES["dino"][0], num_classes=0, **{**SIZES, "embed_dim": 64}).state_dict())
    if kind == "foreign":
        return {"conv1.weight": torch.zeros(8, 3, 7, 7), "layer1.0.bn1.bias": torch.zeros(8)}
    return {n: v[..., ::2, ::2] if n == "patch_embed.proj.weight" else v for n, v in state.items()}


WRONG = [
    ("cut", r"lacks 4 of \d+ weights \(blocks\.3\.mlp\.fc1\.weight, .*, \.\.\.\); set backbone\.model to the model"),
    ("deeper", r"has 12 that the model does not have \(blocks\.4\.norm1\.weight, "),
    ("wider", r"of another shape \(.*cls_token is \(1, 1, 64\) in the file, \(1, 1, 32\) in the model"),
    ("foreign", r"lacks \d+ of \d+ weights \(cls_token, .*\); it has 2 that the model does not have \(conv1\.weight"),
    ("patch", r"patch_embed\.proj\.weight is \(32, 3, 8, 8\) in the file, \(32, 3, 16, 16\) in the model"),
]


@pytest.mark.parametrize(("kind", "message"), WRONG)
def test_a_file_of_another_model_is_told_with_its_names(kind: str, message: str, tmp_path: Path) -> None:
    name, side = NAMES["dino"]
    path = tmp_path / "a.pth"
    torch.save(changed(weights(name, side), kind), path)
    with pytest.raises(UserError, match=message) as caught:
        pretrained(config(name, side, path))
    assert str(caught.value).startswith(f"backbone.checkpoint: {path} is not of `{name}`: ")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 900


def test_a_hundred_names_are_not_shown(tmp_path: Path) -> None:
    name, side = NAMES["dino"]
    torch.save({f"x{i}": torch.zeros(2) for i in range(100)}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"it has 100 that the model does not have \(x0, x1, x2, \.\.\.\)"):
        pretrained(config(name, side, tmp_path / "a.pth"))


@pytest.mark.parametrize("content", [{"epoch": 3}, {}, [torch.zeros(2)], {"state_dict": {"lr": 0.1}}])
def test_a_file_without_weights_is_told(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"a\.pth holds no weights but "):
        pretrained(config(*NAMES["dino"], tmp_path / "a.pth"))


class Bomb:
    """Would make a file as it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("how", ["torch", "pickle", "old", "module"])
def test_code_in_a_file_is_not_run(how: str, tmp_path: Path) -> None:
    path, mark = tmp_path / "bomb.pth", tmp_path / "ran"
    content: Any = {"model": {"cls_token": torch.zeros(1)}, "args": Bomb(mark)}
    if how == "pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(
            torch.nn.Linear(2, 2) if how == "module" else content, path, _use_new_zipfile_serialization=how != "old"
        )
    with pytest.raises(UserError, match=r"bomb\.pth is damaged, or holds Python objects") as caught:
        pretrained(config(*NAMES["dino"], path))
    assert not mark.exists()
    assert "weights_only" not in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_cut_file_is_told(suffix: str, share: float, tmp_path: Path) -> None:
    name, side = NAMES["dino"]
    path, state = tmp_path / f"cut.{suffix}", weights(name, side)
    if suffix == "pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(UserError, match=rf"backbone\.checkpoint: .*cut\.{suffix} (is damaged|cannot be read)"):
        pretrained(config(name, side, path))


def test_a_missing_file_is_told_before_anything_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timm, "create_model", None)
    with pytest.raises(UserError, match=r"backbone\.checkpoint: there is no file .*none\.pth"):
        pretrained(config(*NAMES["dino"], tmp_path / "none.pth"))


def test_a_file_that_fails_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    name, side = NAMES["dino"]
    torch.save(changed(weights(name, side), "cut"), tmp_path / "a.pth")
    model = timm.create_model(name, num_classes=0, img_size=side)
    before = {n: v.clone() for n, v in model.state_dict().items()}
    with pytest.raises(UserError):
        files.fill(model, tmp_path / "a.pth", None, name)
    assert all(torch.equal(v, before[n]) for n, v in model.state_dict().items())


def test_the_model_is_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, side = NAMES["dino"]
    save_file(weights(name, side), tmp_path / "a.safetensors")
    built: list[str] = []

    def create(wanted: str, **options: Any) -> Any:
        built.append(wanted)
        return CREATE(wanted, **options, **SIZES)

    monkeypatch.setattr(timm, "create_model", create)
    pretrained(config(name, side, tmp_path / "a.safetensors"))
    assert built == [name]
