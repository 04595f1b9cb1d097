"""What the models compute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.bundle.writer import make_bundle
from pipeline.judge.command import predict
from pipeline.judge.options import Options
from pipeline.project.params import load_params


def test_what_is_only_compared_is_not_computed(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EAR runs with one mask, nearest neighbours with one kind of features."""
    from stages.detectors.ear.unet import UNet
    from stages.detectors.shared.nearest import Search

    params = load_params()
    assert params.ear.compare_masks and params.knn.compare_features
    passes, searches = list[str](), list[int]()
    forward, made = UNet.forward, Search.__init__

    def counted(self: UNet, x: Any) -> Any:
        passes.append("ear")
        return forward(self, x)

    def noted(self: Search, memory: Any, *more: Any) -> None:
        searches.append(len(memory.features))
        made(self, memory, *more)

    monkeypatch.setattr(UNet, "forward", counted)
    monkeypatch.setattr(Search, "__init__", noted)
    assert predict(["new"], Options(out=tmp_path, detectors=("fused",))) == 0
    assert len(passes) == 3
    assert len(searches) == 2  # one for EAR's mask, one for the deployed features


def test_a_distilled_backbone_takes_the_denoisers_place(finished: Path, tmp_path: Path) -> None:
    from pipeline.bundle.reader import open_bundle
    from pipeline.judge.features import FeatureExtractor

    make_bundle(load_params(finished / "params.yaml"), finished, tmp_path / "bundle")
    bundle = open_bundle(tmp_path / "bundle")

    def fitted(part: str) -> Any:
        return bundle.fitted("backbone" if part == "denoiser/distilled" else part)

    denoised, distilled = (FeatureExtractor(fitted, True, distilled, "cpu") for distilled in (False, True))
    side = denoised.backbone.image_side
    images = np.full((2, side, side, 3), 99, np.uint8)
    found, other = denoised.extract(images), distilled.extract(images)
    assert np.array_equal(other["clean"], other["raw"])  # in this test both are the same network
    assert not np.array_equal(found["clean"], found["raw"])
    assert set(found) == {"raw", "clean", "attention"}
