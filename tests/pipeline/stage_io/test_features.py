"""Feature extraction on a device of its own: decoding beside it, with the same items in the same order."""

from __future__ import annotations

import io
import threading
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.stage_io.items import features
from pipeline.stage_io.items.features import FeaturesWork
from stages.backbone.build import build
from stages.backbone.config import BackboneConfig
from stages.backbone.networks import load
from stages.backbone.networks.interface import Features
from stages.training import Session
from stages.types import Fitted

SECONDS = 20
"""How long a thread waits for what has to come; it comes at once, or never."""


@pytest.fixture(scope="module")
def backbone() -> Fitted:
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    config = BackboneConfig(model="hybrid", image_side=64, crop_side=64, depth=1, steps=0)
    return build(config, images, images, 0, Session())


def png(seed: int) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (40 + seed, 50, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()


@pytest.mark.parametrize("count", [0, 4, 9])
def test_threads_give_the_same_items_in_the_same_order(
    count: int, backbone: Fitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path of a GPU, taken on the CPU under another name; batches of four."""
    monkeypatch.setattr(load, "GPU_BATCH", 4)
    files = [png(seed) for seed in range(count)]
    work = FeaturesWork(backbone, "cpu:0")
    together = list(work(files))
    alone = [item for file in files for item in FeaturesWork(backbone, "cpu:0")([file])]
    plain = list(FeaturesWork(backbone, "cpu")(files))
    assert len(together) == len(plain) == count
    for ours, theirs, exact in zip(together, alone, plain, strict=True):
        assert ours["tokens"].tobytes() == theirs["tokens"].tobytes()
        assert ours["attention"].tobytes() == theirs["attention"].tobytes()
        assert np.abs(ours["tokens"] - exact["tokens"]).max() < 0.05 * np.abs(exact["tokens"]).max()
    assert work.chunk > FeaturesWork(backbone, "cpu").chunk == 64


class Waiting:
    """A device that is done with its first batch only when a file of the next one is being decoded."""

    image_side = 8

    def __init__(self, decoding: threading.Event) -> None:
        self.decoding = decoding

    def extract(self, images: np.ndarray) -> Features:
        assert self.decoding.wait(SECONDS), "nothing was decoded while the device was at work"
        return Features(images[:, :1, :1].astype(np.float32), None)


def test_the_next_batch_is_decoded_while_the_device_is_at_work(
    backbone: Fitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "GPU_BATCH", 2)
    third, decode = threading.Event(), features.decode
    files = [png(seed) for seed in range(4)]

    def watched(file: bytes) -> Any:
        if file == files[2]:
            third.set()
        return decode(file)

    monkeypatch.setattr(features, "decode", watched)
    work = FeaturesWork(backbone, "cuda")
    work.__dict__["_loaded"] = Waiting(third)
    assert len(list(work(files))) == 4
