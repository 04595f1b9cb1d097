"""Weights files of others into models of timm: wrappers and prefixes off, names brought to timm's, nothing missing.

What timm's own filters of a model do is left to them: resampling of position embeddings, register tokens and SwiGLU of
DINOv2, DeiT-III's scales, EVA's names. What they do not know is done here: the wrappers of DINO, DINOv2 and Lightning,
DINOv2's chunks of blocks, MAE's decoder, a norm that has another name where patches are averaged.
"""

from __future__ import annotations

import argparse
import pickle
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from stages.types import UserError

State = dict[str, Tensor]
Filter = Callable[..., Mapping[str, Tensor]]
"""timm's renaming for one family of models: (state, model), or (state) alone."""

WRAPPERS = ("state_dict_ema", "model_ema", "teacher", "state_dict", "model", "student", "module")
"""Keys that hold the weights among other things. Averaged weights come first (DINO evaluates its teacher)."""
UNUSED = ("mask_token", "decoder_", "head.", "head_dist.", "lm_head.")
"""Starts of names that are for training or classes alone."""
CHUNK = re.compile(r"^blocks\.\d+\.(\d+)\.")
SHOWN = 3


def fill(model: nn.Module, path: Path, rename: Filter | None, name: str, key: str = "backbone.checkpoint") -> None:
    """Load the weights of a file, all of them, into `model`.

    Args:
        rename: timm's filter of this model.
        name: the model's, and `key`: the parameter that names the file, for messages.

    Raises:
        UserError: no such file, not one of weights, or not of this model; then the model is as it was.
    """
    state = _own(_state(path, key), set(model.state_dict()))
    wrong = _other_patch(state, model)
    if not wrong:
        state = _renamed(state, model, rename, f"{key}: {path} is not of `{name}`")
        wrong = _differences(state, model)
    if wrong:
        raise UserError(f"{key}: {path} is not of `{name}`: {'; '.join(wrong)}; {_remedy(wrong, model)}")
    model.load_state_dict(state, strict=False)  # batch counters may be missing, which only training reads


def read(path: Path, key: str) -> Any:
    """What a .safetensors or .pth file holds; nothing in it is run.

    Raises:
        UserError: no such file, damaged, or with more than numbers in it.
    """
    if not path.is_file():
        raise UserError(f"{key}: there is no file {path}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # DINO and MAE keep the parsed command line beside the weights: a class without code of its own
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        # torch's own text would advise to run what is in the file
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise UserError(
            f"{key}: {path} is damaged, or holds Python objects{f' ({named[1]})' if named else ''} that run code as "
            "they load; nothing of it was run. Where you trust it, save its `state_dict()` alone, and name that file"
        ) from error
    except Exception as error:  # a damaged file: zip's and safetensors' own kinds
        raise UserError(f"{key}: {path} cannot be read as weights: {' '.join(str(error).split())[:200]}") from error


def _state(path: Path, key: str) -> State:
    """The tensors of a file, wrappers taken off."""
    content = read(path, key)
    while isinstance(content, Mapping):
        inner = next((content[w] for w in WRAPPERS if isinstance(content.get(w), Mapping)), None)
        if inner is None:
            break
        content = inner
    found = {str(n): v for n, v in content.items() if isinstance(v, Tensor)} if isinstance(content, Mapping) else {}
    if not found:
        held = ", ".join(map(str, list(content)[:SHOWN])) if isinstance(content, Mapping) else type(content).__name__
        raise UserError(f"{key}: {path} holds no weights but {held or 'nothing'}; save the model's `state_dict()`")
    return found


def _own(state: State, names: set[str]) -> State:
    """The tensors below the prefix where most of the model's names are, without it; DINOv2's chunks made flat."""
    below: Counter[str] = Counter()
    for full in state:
        parts = full.split(".")
        for i in range(len(parts)):
            if ".".join(parts[i:]) in names:
                below[".".join(parts[:i])] += 1
    # of two networks with the same names (a file of all that DINOv2 trains), the teacher
    prefix = max(below, key=lambda p: (below[p], "teacher" in p, -len(p)), default="")
    start = f"{prefix}." if prefix else ""
    own = {n[len(start) :]: v for n, v in state.items() if n.startswith(start)}
    if not any(CHUNK.match(n) for n in names):  # blocks.CHUNK.BLOCK: the second number counts through all chunks
        own = {CHUNK.sub(r"blocks.\1.", n): v for n, v in own.items()}
    if "register_tokens" in own or "blocks.0.mlp.w12.weight" in own:
        own.setdefault("mask_token", torch.empty(0))  # by this timm knows DINOv2; it is dropped
    return own


def _other_patch(state: State, model: nn.Module) -> list[str]:
    """timm resamples a patch embedding without a word: the file of a ViT-S/16 would load into a ViT-S/8."""
    name = "patch_embed.proj.weight"
    ours, theirs = model.state_dict().get(name), state.get(name)
    if ours is None or theirs is None or theirs.ndim != 4 or ours.shape[2:] == theirs.shape[2:]:
        return []
    return [_shapes({name: theirs}, {name: ours}, [name])]


def _renamed(state: State, model: nn.Module, rename: Filter | None, failed: str) -> State:
    """Under timm's names."""
    if rename is not None:
        try:
            try:
                state = dict(rename(dict(state), model))
            except TypeError:  # a filter of one argument
                state = dict(rename(dict(state)))
        # the filters take their kinds of file for granted, and raise whatever comes of others
        except Exception as error:
            raise UserError(f"{failed}: {' '.join(str(error).split())[:200]}; {_remedy([], model)}") from error
    names = set(model.state_dict())
    for ours, theirs in (("fc_norm", "norm"), ("norm", "fc_norm")):
        # the last norm goes by the one name where a class token is read, by the other where patches are averaged
        if f"{ours}.weight" in names and f"{theirs}.weight" not in names and f"{ours}.weight" not in state:
            state = {re.sub(rf"^{theirs}\.", f"{ours}.", n): v for n, v in state.items()}
    classes = getattr(model, "pretrained_cfg", {}).get("classifier") or ()
    unused = (*UNUSED, *(f"{c}." for c in ((classes,) if isinstance(classes, str) else classes)))
    return {n: v for n, v in state.items() if n in names or not n.startswith(unused)}


def _differences(state: State, model: nn.Module) -> list[str]:
    """What is missing, too much, or of another shape, each in words with its first few names."""
    ours = model.state_dict()
    missing = [n for n in ours if n not in state and not n.endswith("num_batches_tracked")]
    unknown = [n for n in state if n not in ours]
    shapes = [n for n in ours if n in state and state[n].shape != ours[n].shape]
    said = []
    if missing:
        said.append(f"it lacks {len(missing)} of {len(ours)} weights ({_few(missing)})")
    if unknown:
        said.append(f"it has {len(unknown)} that the model does not have ({_few(unknown)})")
    if shapes:
        said.append(_shapes(state, ours, shapes))
    return said


def _shapes(theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor], names: list[str]) -> str:
    each = [f"{n} is {tuple(theirs[n].shape)} in the file, {tuple(ours[n].shape)} in the model" for n in names]
    return f"{len(names)} of another shape ({_few(each)})"


def _few(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def _remedy(wrong: list[str], model: nn.Module) -> str:
    side = getattr(model, "pretrained_cfg", {}).get("input_size", (0, 0))[-1]
    if len(wrong) == 1 and "relative_position" in wrong[0]:
        return f"such a table fits one side alone: set backbone.image_side to {side}, or to the side it was trained at"
    return "set backbone.model to the model that the file was saved from"
