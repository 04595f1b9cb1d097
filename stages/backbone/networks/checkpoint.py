"""Loads other projects' weights files into models of timm: removes wrappers and prefixes, maps names to timm's, checks
that all is there.

timm's own filter of a model does what it can: it resamples position embeddings, converts register tokens and SwiGLU of
DINOv2, DeiT-III's scales, EVA's names. This module does the rest: wrappers of DINO, DINOv2 and Lightning, DINOv2's
chunks of blocks, MAE's decoder, and the other name of the last norm in models that average patches.
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
"""timm's renaming for one family of models; takes (state, model) or (state)."""

WRAPPERS = ("state_dict_ema", "model_ema", "teacher", "state_dict", "model", "student", "module")
"""Keys that hold the weights among other content. Averaged weights come first (DINO evaluates its teacher)."""
UNUSED = ("mask_token", "decoder_", "head.", "head_dist.", "lm_head.")
"""Prefixes of names that are only for training or classification."""
CHUNK = re.compile(r"^blocks\.\d+\.(\d+)\.")
NAMES_SHOWN = 3


def load_weights(
    model: nn.Module, path: Path, rename: Filter | None, name: str, key: str = "backbone.checkpoint"
) -> None:
    """Load all weights of a file into `model`.

    Args:
        rename: timm's filter for this model.
        name: the model's name, for messages.
        key: the parameter that names the file, for messages.

    Raises:
        UserError: the file does not exist, holds no weights, or belongs to another model; the model then stays as it
            was.
    """
    state = _own_weights(_state(path, key), set(model.state_dict()))
    wrong = _patch_size_difference(state, model)
    if not wrong:
        state = _renamed(state, model, rename, f"{key}: {path} is not of `{name}`")
        wrong = _differences(state, model)
    if wrong:
        raise UserError(f"{key}: {path} is not of `{name}`: {'; '.join(wrong)}; {_remedy(wrong, model)}")
    model.load_state_dict(state, strict=False)  # batch counters may be missing; only training reads them


def read(path: Path, key: str) -> Any:
    """The content of a .safetensors or .pth file; no code in it is run.

    Raises:
        UserError: the file does not exist, is damaged, or holds more than numbers.
    """
    if not path.is_file():
        raise UserError(f"{key}: there is no file {path}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # DINO and MAE save the parsed command line beside the weights: a class without code of its own
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        # torch's own text would advise to run what is in the file
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise UserError(
            f"{key}: {path} is damaged, or holds Python objects{f' ({named[1]})' if named else ''} that run code as "
            "they load; nothing of it was run. If you trust the file, save its `state_dict()` alone and name that file"
        ) from error
    except Exception as error:  # for a damaged file zip and safetensors raise errors of their own
        raise UserError(f"{key}: {path} cannot be read as weights: {' '.join(str(error).split())[:200]}") from error


def _state(path: Path, key: str) -> State:
    """The tensors of a file, without wrappers."""
    content = read(path, key)
    while isinstance(content, Mapping):
        inner = next((content[w] for w in WRAPPERS if isinstance(content.get(w), Mapping)), None)
        if inner is None:
            break
        content = inner
    tensors = {str(n): v for n, v in content.items() if isinstance(v, Tensor)} if isinstance(content, Mapping) else {}
    if not tensors:
        names = (
            ", ".join(map(str, list(content)[:NAMES_SHOWN])) if isinstance(content, Mapping) else type(content).__name__
        )
        raise UserError(f"{key}: {path} holds no weights but {names or 'nothing'}; save the model's `state_dict()`")
    return tensors


def _own_weights(state: State, names: set[str]) -> State:
    """The tensors below the prefix that holds most of the model's names, without the prefix; DINOv2's chunks are
    flattened."""
    below: Counter[str] = Counter()
    for full in state:
        parts = full.split(".")
        for i in range(len(parts)):
            if ".".join(parts[i:]) in names:
                below[".".join(parts[:i])] += 1
    # a file of all that DINOv2 trains has two networks with the same names: prefer the teacher
    prefix = max(below, key=lambda p: (below[p], "teacher" in p, -len(p)), default="")
    start = f"{prefix}." if prefix else ""
    own = {n[len(start) :]: v for n, v in state.items() if n.startswith(start)}
    if not any(CHUNK.match(n) for n in names):  # blocks.CHUNK.BLOCK: the second number counts over all chunks
        own = {CHUNK.sub(r"blocks.\1.", n): v for n, v in own.items()}
    if "register_tokens" in own or "blocks.0.mlp.w12.weight" in own:
        own.setdefault("mask_token", torch.empty(0))  # timm recognises DINOv2 by it, and drops it
    return own


def _patch_size_difference(state: State, model: nn.Module) -> list[str]:
    """A message if the patch sizes differ, else none. timm silently resamples a patch embedding, so the file of a
    ViT-S/16 would load into a ViT-S/8."""
    name = "patch_embed.proj.weight"
    ours, theirs = model.state_dict().get(name), state.get(name)
    if ours is None or theirs is None or theirs.ndim != 4 or ours.shape[2:] == theirs.shape[2:]:
        return []
    return [_shapes({name: theirs}, {name: ours}, [name])]


def _renamed(state: State, model: nn.Module, rename: Filter | None, failed: str) -> State:
    """The tensors under timm's names."""
    if rename is not None:
        try:
            try:
                state = dict(rename(dict(state), model))
            except TypeError:  # a filter of one argument
                state = dict(rename(dict(state)))
        # the filters expect one kind of file, and raise various errors for other kinds
        except Exception as error:
            raise UserError(f"{failed}: {' '.join(str(error).split())[:200]}; {_remedy([], model)}") from error
    names = set(model.state_dict())
    for ours, theirs in (("fc_norm", "norm"), ("norm", "fc_norm")):
        # the last norm is called `norm` if a class token is read, `fc_norm` if patches are averaged
        if f"{ours}.weight" in names and f"{theirs}.weight" not in names and f"{ours}.weight" not in state:
            state = {re.sub(rf"^{theirs}\.", f"{ours}.", n): v for n, v in state.items()}
    classes = getattr(model, "pretrained_cfg", {}).get("classifier") or ()
    unused = (*UNUSED, *(f"{c}." for c in ((classes,) if isinstance(classes, str) else classes)))
    return {n: v for n, v in state.items() if n in names or not n.startswith(unused)}


def _differences(state: State, model: nn.Module) -> list[str]:
    """Messages about missing and unknown weights and wrong shapes, each with the first few names."""
    ours = model.state_dict()
    missing = [n for n in ours if n not in state and not n.endswith("num_batches_tracked")]
    unknown = [n for n in state if n not in ours]
    shapes = [n for n in ours if n in state and state[n].shape != ours[n].shape]
    differences = []
    if missing:
        differences.append(f"it lacks {len(missing)} of {len(ours)} weights ({_first_names(missing)})")
    if unknown:
        differences.append(f"it has {len(unknown)} that the model does not have ({_first_names(unknown)})")
    if shapes:
        differences.append(_shapes(state, ours, shapes))
    return differences


def _shapes(theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor], names: list[str]) -> str:
    each = [f"{n} is {tuple(theirs[n].shape)} in the file, {tuple(ours[n].shape)} in the model" for n in names]
    return f"{len(names)} of another shape ({_first_names(each)})"


def _first_names(names: list[str]) -> str:
    return ", ".join(names[:NAMES_SHOWN]) + (", ..." if len(names) > NAMES_SHOWN else "")


def _remedy(wrong: list[str], model: nn.Module) -> str:
    side = getattr(model, "pretrained_cfg", {}).get("input_size", (0, 0))[-1]
    if len(wrong) == 1 and "relative_position" in wrong[0]:
        return f"such a table fits a single side: set backbone.image_side to {side}, or to the side it was trained at"
    return "set backbone.model to the model that the file was saved from"
