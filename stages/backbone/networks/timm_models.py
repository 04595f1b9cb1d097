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

from stages.backbone.networks.checkpoint import fill
from stages.types import UserError

PROBE_SECONDS = 3.0


@dataclass(frozen=True)
class Asked:
    """By which parameters a model is asked for: what messages name."""

    model: str = "backbone.model"
    checkpoint: str = "backbone.checkpoint"
    instead: str = "`hybrid`, which is trained here"
    """What `model` may be without a network and without a file."""


BACKBONE = Asked()


def create(name: str, image_side: int, asked: Asked = BACKBONE) -> nn.Module:
    """The model without classes, in evaluation mode; random weights, the same in every run.

    Raises:
        UserError: timm has no such model, or it cannot be of this side.
    """
    return _create(name, image_side, asked)


def create_pretrained(
    name: str,
    image_side: int,
    checkpoint: str | None,
    check: Callable[[nn.Module], None] = lambda model: None,
    asked: Asked = BACKBONE,
) -> nn.Module:
    """The same with the weights of `checkpoint`, or downloaded (or found in the hub's cache).

    Args:
        check: called with the model before any weights are looked for; what it raises goes through.

    Raises:
        UserError: no such file, or it is not of this model; without a network within five seconds.
    """
    own = _builder.load_pretrained

    def load(model: nn.Module, pretrained_cfg: dict[str, Any], filter_fn: Any = None, **options: Any) -> None:
        check(model)
        if checkpoint is not None:
            fill(model, Path(checkpoint), filter_fn, name, asked.checkpoint)
            return
        file = _cached(pretrained_cfg)
        if file is None:
            _check_reachable(name, pretrained_cfg, asked)
        settings = pretrained_cfg if file is None else {**pretrained_cfg, "file": str(file), "custom_load": False}
        try:
            own(model, pretrained_cfg=settings, filter_fn=filter_fn, **options)
        except Exception as error:  # a proxy that answers for the hub, a download that breaks off, a damaged cache
            why = f"the weights of `{name}` cannot be had ({' '.join(str(error).split())[:200]})"
            raise _without(why, asked) from error

    if checkpoint is not None and not Path(checkpoint).is_file():
        raise UserError(f"{asked.checkpoint}: there is no file {checkpoint}")  # before minutes of building
    with _loading(load):
        return _create(name, image_side, asked, pretrained=True)


@contextmanager
def _loading(load: Callable[..., None]) -> Iterator[None]:
    """Inside, timm hands each new model, with its filter of names, to `load`.

    Its own loading does not tell what was missing in a file, and the filter of a model cannot be asked for; without it
    the model would have to be built twice.
    """
    own = _builder.load_pretrained
    _builder.load_pretrained = load
    try:
        yield
    finally:
        _builder.load_pretrained = own


def _create(name: str, image_side: int, asked: Asked, **options: Any) -> nn.Module:
    if not timm.is_model(name.split(".")[0]):
        near = ", ".join(difflib.get_close_matches(name, timm.list_models(), 3)) or "vit_small_patch16_224"
        raise UserError(f"{asked.model}: timm has no model `{name}`; near are {near}")
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
    except Exception as error:  # timm's models raise what they like of a side or tag that they cannot have
        raise UserError(
            f"{asked.model}: timm cannot make `{name}` at side {image_side}: {' '.join(str(error).split())[:300]}"
        ) from error
    return model.eval()


def _cached(settings: dict[str, Any]) -> Path | None:
    """The weights in the hub's cache."""
    from huggingface_hub import try_to_load_from_cache

    for file in ("model.safetensors", "pytorch_model.bin"):
        found = try_to_load_from_cache(settings["hf_hub_id"], file) if settings.get("hf_hub_id") else None
        if isinstance(found, str):
            return Path(found)
    return None


def _check_reachable(name: str, settings: dict[str, Any], asked: Asked) -> None:
    """Raise unless the hub answers: the download itself would try for three quarters of a minute."""
    from huggingface_hub import constants, get_session

    address = constants.ENDPOINT if settings.get("hf_hub_id") else settings.get("url")
    if not address:
        raise UserError(
            f"{asked.model}: timm has no pretrained weights for `{name}`; add a tag (`.dino`) or set {asked.checkpoint}"
        )
    answer: list[bool] = []

    def probe() -> None:
        try:
            get_session().head(address, timeout=PROBE_SECONDS)
        except Exception:  # whatever it is, there is no network
            return
        answer.append(True)

    thread = threading.Thread(target=probe, daemon=True)  # a name server that never answers outlives any timeout
    thread.start()
    thread.join(PROBE_SECONDS + 0.5)
    if not answer:
        raise _without(f"{address} cannot be reached, so the weights of `{name}` cannot be downloaded", asked)


def _without(why: str, asked: Asked) -> UserError:
    """The two ways out where there are no weights."""
    return UserError(
        f"{asked.model}: {why}; either set {asked.checkpoint} to a local file of them (.safetensors or .pth), or "
        f"{asked.model} to {asked.instead}"
    )
