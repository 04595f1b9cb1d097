"""Any ViT of timm behind the same forward pass; weights from a local file or over the network.

Legend: B images; S image side; h, w grid; P prefix tokens (class token, registers); C channels; H heads.
"""

from __future__ import annotations

import difflib
import threading
from pathlib import Path
from typing import Any

import stages.torch_setup  # noqa: F401  (before timm)

import timm  # isort: skip
import torch
from torch import Tensor, nn

from stages.types import UserError

PROBE_SECONDS = 3.0


class TimmVit(nn.Module):
    """Patch tokens after the final norm, and the last block's class attention where there is a class token."""

    mean: Tensor
    spread: Tensor

    def __init__(self, name: str, image_side: int, file: Path | None = None, **options: Any) -> None:
        """`options`: more for `timm.create_model`, as `pretrained`; `file`: weights, instead of random ones.

        Raises:
            UserError: timm has no such ViT, the side does not fit its patch, or its weights do not fit.
        """
        super().__init__()
        vit: Any = _create(name, image_side, file, options)
        self.vit = vit
        blocks = getattr(vit, "blocks", None)
        attention: Any = getattr(blocks[-1], "attn", None) if blocks else None
        readable = hasattr(attention, "attn_drop") and hasattr(attention, "fused_attn")
        if not (readable and hasattr(vit, "norm") and hasattr(vit, "num_prefix_tokens")):
            raise UserError(
                f"backbone.model: `{name}` of timm is not a ViT whose attention can be read; choose a `vit_` model"
            )
        attention.fused_attn = False  # the fused kernel never forms the weights
        attention.attn_drop.register_forward_hook(self._keep)
        self._weights: Tensor | None = None
        self.has_class_token = getattr(vit, "cls_token", None) is not None
        self.heads: int = attention.num_heads if self.has_class_token else 0
        self.grid: tuple[int, int] = tuple(vit.patch_embed.grid_size)
        self.channels: int = vit.num_features
        settings = vit.pretrained_cfg
        self.register_buffer("mean", 255.0 * torch.tensor(settings["mean"]))
        self.register_buffer("spread", 255.0 * torch.tensor(settings["std"]))
        self.requires_grad_(False)

    def _keep(self, _module: nn.Module, _inputs: Any, weights: Tensor) -> None:
        self._weights = weights  # (B, H, P + N, P + N), after the softmax; dropout is the identity in evaluation

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """(B, 3, S, S) pixels in [0, 255] -> tokens (B, C, h, w), class attention (B, H, h, w) or None."""
        pixels = (images - self.mean[:, None, None]) / self.spread[:, None, None]
        x = self.vit.forward_features(pixels)  # (B, P + N, C)
        if isinstance(self.vit.norm, nn.Identity):  # models that pool the mean have their last norm behind it
            x = self.vit.fc_norm(x)
        prefix, (h, w) = self.vit.num_prefix_tokens, self.grid
        tokens = x[:, prefix:].transpose(1, 2).reshape(len(x), -1, h, w)
        if not self.has_class_token or self._weights is None:
            return tokens, None
        # the class token is the first prefix token in every ViT of timm
        return tokens, self._weights[:, :, 0, prefix:].reshape(len(x), -1, h, w)


def pretrained(name: str, image_side: int, checkpoint: str | None) -> TimmVit:
    """The model with weights of `checkpoint`, or downloaded (or found in the hub's cache).

    Raises:
        UserError: no such file, or it is not of this model; without a network within five seconds.
    """
    random = TimmVit(name, image_side)  # first: a wrong name or side is told before any download
    if checkpoint is None:
        file = _cached(random.vit.pretrained_cfg)
        if file is None:
            _check_reachable(name, random.vit.pretrained_cfg)
        return TimmVit(name, image_side, file, pretrained=True)
    if not Path(checkpoint).is_file():
        raise UserError(f"backbone.checkpoint: there is no file {checkpoint}")
    network = TimmVit(name, image_side, Path(checkpoint), pretrained=True)
    before = dict(random.named_parameters())
    # Both were drawn from the same seed: a matrix that is still equal was not in the file.
    missing = [n for n, p in network.named_parameters() if p.ndim > 1 and torch.equal(p, before[n])]
    if missing:
        raise UserError(
            f"backbone.checkpoint: {checkpoint} is not of `{name}`: it lacks {len(missing)} weights, {missing[0]} "
            "first; name the model that the file was saved from"
        )
    return network


def _create(name: str, image_side: int, file: Path | None, options: dict[str, Any]) -> nn.Module:
    if not timm.is_model(name.split(".")[0]):
        near = ", ".join(difflib.get_close_matches(name, timm.list_models(), 3)) or "vit_small_patch16_224"
        raise UserError(f"backbone.model: timm has no model `{name}`; near are {near}")
    if file is not None:
        options = {**options, "pretrained_cfg_overlay": {"file": str(file)}}
    try:
        with torch.random.fork_rng():
            torch.manual_seed(0)  # whatever is not loaded is the same in every run
            model: nn.Module = timm.create_model(name, num_classes=0, img_size=image_side, **options)
    except TypeError as error:
        raise UserError(f"backbone.model: `{name}` of timm is not a ViT of free image side ({error})") from error
    except (RuntimeError, ValueError, KeyError, OSError, AssertionError) as error:
        what = f"the weights {file} do not fit" if file else "timm cannot build"
        raise UserError(f"backbone.model: {what} `{name}`: {' '.join(str(error).split())[:300]}") from error
    except Exception as error:  # a damaged file: pickle's and safetensors' own kinds
        raise UserError(
            f"backbone.checkpoint: {file} cannot be read as weights: {' '.join(str(error).split())[:300]}"
        ) from error
    _check_side(name, image_side, model)
    return model.eval()


def _check_side(name: str, image_side: int, model: nn.Module) -> None:
    size = getattr(getattr(model, "patch_embed", None), "patch_size", None)
    if size is None:
        raise UserError(f"backbone.model: `{name}` of timm is not a ViT: it has no patches; choose a `vit_` model")
    if image_side % size[0]:
        raise UserError(f"backbone.image_side: {image_side} is not a multiple of the patch size {size[0]} of `{name}`")


def _cached(settings: dict[str, Any]) -> Path | None:
    """The weights in the hub's cache."""
    from huggingface_hub import try_to_load_from_cache

    for file in ("model.safetensors", "pytorch_model.bin"):
        found = try_to_load_from_cache(settings["hf_hub_id"], file) if settings.get("hf_hub_id") else None
        if isinstance(found, str):
            return Path(found)
    return None


def _check_reachable(name: str, settings: dict[str, Any]) -> None:
    """Raise unless the hub answers: the download itself would try for three quarters of a minute."""
    from huggingface_hub import constants, get_session

    address = constants.ENDPOINT if settings.get("hf_hub_id") else settings.get("url")
    if not address:
        raise UserError(
            f"backbone.model: timm has no pretrained weights for `{name}`; add a tag (`.dino`) or set `checkpoint`"
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
        raise UserError(
            f"backbone.model: {address} cannot be reached, so the weights of `{name}` cannot be downloaded; either set "
            "backbone.checkpoint to a local file of them (.safetensors or .pth), or backbone.model to `hybrid`, which "
            "is trained here"
        )
