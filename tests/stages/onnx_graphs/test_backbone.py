"""The graph of backbone and denoiser, run by ONNX Runtime, against our own features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from pipeline.judge.features import FeatureExtractor
from stages.backbone.build import build
from stages.backbone.config import BackboneConfig
from stages.backbone.networks.load import load, network_for
from stages.denoise.config import DenoiserConfig
from stages.denoise.denoiser import train_denoiser
from stages.onnx_graphs.backbone import graph
from stages.onnx_graphs.convert import arrays_runner, to_onnx
from stages.onnx_graphs.parity import differences
from stages.training import Session
from stages.types import Fitted
from tests.stages.backbone.conftest import small, textures

pytestmark = pytest.mark.long

IMAGES = textures(5, 0)
TOLERANCE = 1e-4


def checkpoint_of(name: str, folder: Path) -> BackboneConfig:
    """A model of timm with random weights."""
    config = BackboneConfig(model=f"timm:{name}", image_side=64)
    torch.manual_seed(0)
    model: Any = network_for(config).vit
    save_file({key: value + 0.02 * torch.randn_like(value) for key, value in model.state_dict().items()}, folder / "w")
    return config.model_copy(update={"checkpoint": str((folder / "w").rename(folder / "w.safetensors"))})


def denoiser_of(raw: NDArray[np.float16]) -> Fitted:
    pairs = raw, (0.5 * raw).astype(np.float16)
    return train_denoiser(*pairs, DenoiserConfig(epochs=3, heads=4, learning_rate=0.01), 0)


def features_by_both(backbone: Fitted, denoiser: Fitted, distilled: bool) -> tuple[list[Any], list[Any]]:
    def fitted(part: str) -> Fitted:
        return backbone if part == "backbone" else denoiser

    ours = FeatureExtractor(fitted, clean=True, distilled=distilled, device="cpu")
    run = arrays_runner(to_onnx(graph(backbone, denoiser, distilled)), threads=1)
    images = [image[None] for image in IMAGES[:2]]
    return [ours.extract(image) for image in images], [run({"image": image}) for image in images]


@pytest.mark.parametrize("model", ["hybrid", "plain", "cnn", "test_vit"])
def test_the_graph_gives_our_features_in_half_precision(model: str, tmp_path: Path) -> None:
    config = checkpoint_of(model, tmp_path) if model == "test_vit" else small(model=model, depth=1)
    backbone = build(config, IMAGES, IMAGES[:2], 0, Session())
    raw = load(backbone, "cpu").extract(IMAGES).tokens.astype(np.float16)
    ours, theirs = features_by_both(backbone, denoiser_of(raw), distilled=False)
    assert set(theirs[0]) == {"raw", "clean"} | ({"attention"} if model != "cnn" else set())
    largest = differences(ours, theirs)
    assert set(largest) == set(theirs[0])
    assert max(largest.values()) <= TOLERANCE
    assert np.abs(ours[0]["clean"] - ours[0]["raw"]).max() > 0.1 * np.ptp(ours[0]["raw"].astype(np.float32))
    for values in theirs[0].values():
        np.testing.assert_array_equal(values, values.astype(np.float16))


def test_a_distilled_backbone_takes_the_denoisers_place() -> None:
    backbone, other = (build(small(model="plain", depth=1), IMAGES, IMAGES[:2], seed, Session()) for seed in (0, 1))
    ours, theirs = features_by_both(backbone, other, distilled=True)
    assert max(differences(ours, theirs).values()) <= TOLERANCE
    assert not np.array_equal(theirs[0]["clean"], theirs[0]["raw"])


def test_differences_by_hand() -> None:
    """Means over an image of the larger one, as a share of the spread over both."""
    ours = [{"a": np.array([[0.0, 4.0]])}, {"a": np.array([[2.0, 10.0]])}]
    theirs = [{"a": np.array([[1.0, 4.0]])}, {"a": np.array([[2.0, 7.0]])}]
    assert differences(ours, theirs) == {"a": pytest.approx(0.15)}
    theirs[0]["a"][0, 0] = np.nan
    assert not differences(ours, theirs)["a"] <= 1e9
