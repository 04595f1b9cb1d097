"""Original files of DINO, DINOv2 and MAE, written under their own names, give what the model gave."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from stages.backbone.networks.load import network_for, pretrained
from tests.stages.backbone.conftest import textures
from tests.stages.backbone.networks.checkpoint_files import NAMES, State, config, weights

pytestmark = pytest.mark.usefixtures("tiny_timm")


def outputs(model: Any, side: int) -> tuple[Tensor, Tensor | None]:
    images = torch.from_numpy(textures(2, 0, 560)[:, :side, :side]).permute(0, 3, 1, 2).float()
    with torch.inference_mode():
        tokens, attention = model(images)
    return tokens, attention


# --- timm's names to the original names, by hand ---


def same(state: State) -> State:
    return dict(state)


def dinov2(state: State) -> State:
    return {**state, "mask_token": torch.zeros(1, 32)}


def dinov2_reg(state: State) -> State:
    """The class token's position is part of the position embedding, and the registers have another name."""
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
    """Two blocks per chunk, numbered over all chunks."""
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
    network = pretrained(config(name, side, tmp_path / "original.pth"))
    for ours, theirs in zip(outputs(network, side), outputs(expected, side), strict=True):
        assert ours is not None and theirs is not None
        # with registers the class token's position is added in another order: the last bit of a sum differs
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5 if "reg" in kind or "giant" in kind else 0)


def test_a_norm_after_averaging_has_its_other_name(tmp_path: Path) -> None:
    """MAE's encoder has `norm`; a model that averages patches has `fc_norm` instead; and the other way round."""
    average, token = "eva02_tiny_patch14_224.mim_in22k", "vit_base_patch16_224.mae"
    for name, other in ((average, "norm"), (token, "fc_norm")):
        side = 56 if "14" in name else 64
        state = weights(name, side)
        ours = "fc_norm" if other == "norm" else "norm"
        torch.save(
            {n.replace(f"{ours}.", f"{other}.") if n.startswith(ours) else n: v for n, v in state.items()},
            tmp_path / "a.pth",
        )
        network: Any = pretrained(config(name, side, tmp_path / "a.pth")).vit
        assert torch.equal(getattr(network, ours).weight, state[f"{ours}.weight"])


def test_only_the_blocks_that_are_read_are_kept(tmp_path: Path) -> None:
    name, side = NAMES["dino"]
    save_file(weights(name, side), tmp_path / "a.safetensors")
    network = pretrained(config(name, side, tmp_path / "a.safetensors", blocks=(2,)))
    assert not any(n.startswith("vit.blocks.2") for n in network.state_dict())
