"""Weights files that do not fit, are damaged or hold code: each gives one clear line."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from stages.backbone.networks import checkpoint
from stages.backbone.networks.load import pretrained
from stages.types import UserError
from tests.stages.backbone.networks.checkpoint_files import CREATE, NAMES, SIZES, State, config, weights

import timm  # isort: skip  (after torch_setup, which checkpoint_files imports)

pytestmark = pytest.mark.usefixtures("tiny_timm")


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
def test_a_file_of_another_model_is_reported_with_names(kind: str, message: str, tmp_path: Path) -> None:
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
def test_a_file_without_weights_is_reported(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"a\.pth holds no weights but "):
        pretrained(config(*NAMES["dino"], tmp_path / "a.pth"))


class Bomb:
    """Would create a file when it is read."""

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
def test_a_cut_file_is_reported(suffix: str, share: float, tmp_path: Path) -> None:
    name, side = NAMES["dino"]
    path, state = tmp_path / f"cut.{suffix}", weights(name, side)
    if suffix == "pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(UserError, match=rf"backbone\.checkpoint: .*cut\.{suffix} (is damaged|cannot be read)"):
        pretrained(config(name, side, path))


def test_a_missing_file_is_reported_before_anything_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timm, "create_model", None)
    with pytest.raises(UserError, match=r"backbone\.checkpoint: there is no file .*none\.pth"):
        pretrained(config(*NAMES["dino"], tmp_path / "none.pth"))


def test_a_file_that_fails_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    name, side = NAMES["dino"]
    torch.save(changed(weights(name, side), "cut"), tmp_path / "a.pth")
    model = timm.create_model(name, num_classes=0, img_size=side)
    before = {n: v.clone() for n, v in model.state_dict().items()}
    with pytest.raises(UserError):
        checkpoint.load_weights(model, tmp_path / "a.pth", None, name)
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
