"""Models of timm by name, built once: with random weights, from a file, from the hub's cache or over the network."""

from __future__ import annotations

import difflib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import stages.torch_setup  # noqa: F401  (before timm)

import timm  # isort: skip
import torch
from timm.models import _builder
from torch import nn

from stages.backbone.networks.checkpoint import load_weights
from stages.types import UserError

PROBE_SECONDS = 3.0


@dataclass(frozen=True)
class ParameterNames:
    """The parameters that name a model and its weights file, for messages."""

    model: str = "backbone.model"
    checkpoint: str = "backbone.checkpoint"
    instead: str = "`hybrid`, which is trained here"
    """A value of `model` that needs neither a network nor a file."""


BACKBONE = ParameterNames()


def create(name: str, image_side: int, names: ParameterNames = BACKBONE) -> nn.Module:
    """The model without a classifier, in evaluation mode, with random weights that are the same in every run.

    Raises:
        UserError: timm has no such model, or the model cannot have this side.
    """
    return _create(name, image_side, names)


def create_pretrained(
    name: str,
    image_side: int,
    checkpoint: str | None,
    check: Callable[[nn.Module], None] = lambda model: None,
    names: ParameterNames = BACKBONE,
) -> nn.Module:
    """The model with the weights of `checkpoint`, or downloaded (or found in the hub's cache).

    Args:
        check: called with the model before any weights are loaded; its errors are passed on.

    Raises:
        UserError: the file does not exist or belongs to another model; without a network, within five seconds.
    """
    original_loader = _builder.load_pretrained

    def load(model: nn.Module, pretrained_cfg: dict[str, Any], filter_fn: Any = None, **options: Any) -> None:
        check(model)
        if checkpoint is not None:
            load_weights(model, Path(checkpoint), filter_fn, name, names.checkpoint)
            return
        file = _cached(pretrained_cfg)
        if file is None:
            _check_reachable(name, pretrained_cfg, names)
        settings = pretrained_cfg if file is None else {**pretrained_cfg, "file": str(file), "custom_load": False}
        try:
            original_loader(model, pretrained_cfg=settings, filter_fn=filter_fn, **options)
        except Exception as error:  # a proxy that answers for the hub, a download that breaks off, a damaged cache
            why = f"the weights of `{name}` cannot be loaded ({' '.join(str(error).split())[:200]})"
            raise _no_weights(why, names) from error

    if checkpoint is not None and not Path(checkpoint).is_file():
        raise UserError(f"{names.checkpoint}: there is no file {checkpoint}")  # building a model may take minutes
    with _loading(load):
        return _create(name, image_side, names, pretrained=True)


@contextmanager
def _loading(load: Callable[..., None]) -> Iterator[None]:
    """Inside the block, timm passes each new model, with its filter of names, to `load`.

    timm's own loading does not tell which weights were missing in a file, and the filter of a model cannot be obtained
    in another way. Without this the model would have to be built twice.
    """
    original_loader = _builder.load_pretrained
    _builder.load_pretrained = load
    try:
        yield
    finally:
        _builder.load_pretrained = original_loader


def _create(name: str, image_side: int, names: ParameterNames, **options: Any) -> nn.Module:
    if not timm.is_model(name.split(".")[0]):
        near = ", ".join(difflib.get_close_matches(name, timm.list_models(), 3)) or "vit_small_patch16_224"
        raise UserError(f"{names.model}: timm has no model `{name}`; similar names are {near}")
    try:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            try:
                model: nn.Module = timm.create_model(name, num_classes=0, img_size=image_side, **options)
            except TypeError as error:
                if "img_size" not in str(error):
                    raise
                model = timm.create_model(name, num_classes=0, **options)  # a convolutional network takes any side
    except UserError:
        raise
    except Exception as error:  # timm's models raise various errors for an impossible side or tag
        raise UserError(
            f"{names.model}: timm cannot make `{name}` at side {image_side}: {' '.join(str(error).split())[:300]}"
        ) from error
    return model.eval()


def _cached(settings: dict[str, Any]) -> Path | None:
    """The weights in the hub's cache, or None."""
    from huggingface_hub import try_to_load_from_cache

    for file in ("model.safetensors", "pytorch_model.bin"):
        found = try_to_load_from_cache(settings["hf_hub_id"], file) if settings.get("hf_hub_id") else None
        if isinstance(found, str):
            return Path(found)
    return None


def _check_reachable(name: str, settings: dict[str, Any], names: ParameterNames) -> None:
    """Raises UserError unless the hub answers; the download itself would try for 45 seconds."""
    from huggingface_hub import constants, get_session

    address = constants.ENDPOINT if settings.get("hf_hub_id") else settings.get("url")
    if not address:
        raise UserError(
            f"{names.model}: timm has no pretrained weights for `{name}`; add a tag (`.dino`) or set {names.checkpoint}"
        )
    answer: list[bool] = []

    def probe() -> None:
        try:
            get_session().head(address, timeout=PROBE_SECONDS)
        except Exception:  # any error means that there is no network
            return
        answer.append(True)

    thread = threading.Thread(target=probe, daemon=True)  # a silent name server may take longer than any timeout
    thread.start()
    thread.join(PROBE_SECONDS + 0.5)
    if not answer:
        raise _no_weights(f"{address} cannot be reached, so the weights of `{name}` cannot be downloaded", names)


def _no_weights(why: str, names: ParameterNames) -> UserError:
    """The two alternatives if there are no weights."""
    return UserError(
        f"{names.model}: {why}; either set {names.checkpoint} to a local weights file (.safetensors or .pth), or "
        f"{names.model} to {names.instead}"
    )
