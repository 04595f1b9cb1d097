"""Grey values of 8 to 32 bits: the same part gives the same pixels, and what was decided is said."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.judge.images import describe_differences, load_image
from stages.download.config import DataConfig
from stages.download.depth import choose_white
from stages.download.manifest import ImageRecord, collect
from stages.images import decode, to_square

PARTS = 12


def pixels(seed: int) -> np.ndarray:
    """(24, 24) grey values from 0 to 1 of a part; every part has a black and a white pixel."""
    values = np.random.default_rng(seed).uniform(0.1, 0.9, (24, 24))
    values[0, :2] = 0, 1
    return values


def collected(folder: Path, white: int, kind: Any, **changes: Any) -> list[ImageRecord]:
    for seed in range(PARTS):
        path = folder / "in/normal" / f"n{seed}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.round(pixels(seed) * white).astype(kind)).save(path)
    config = DataConfig(source="folder", folder=str(folder / "in"), categories=("part",), **changes)
    return collect(config, folder / "out")[0]


def read(folder: Path, record: ImageRecord) -> np.ndarray:
    return np.asarray(decode((folder / "out" / record.path).read_bytes()))[..., 0]


@pytest.mark.parametrize(
    ("white", "kind"),
    [
        (65535, np.uint16),
        (4095, np.uint16),
        (1023, np.uint16),
        (255, np.int32),
        (4095, np.int32),
        (2**20 - 1, np.int32),
    ],
)
def test_a_part_looks_the_same_at_every_depth(
    tmp_path: Path, white: int, kind: Any, caplog: pytest.LogCaptureFixture
) -> None:
    records = collected(tmp_path, white, kind)
    assert len(records) == PARTS
    for record in records:
        seed = int(Path(record.path).name.split(".")[0][1:])
        assert np.abs(read(tmp_path, record) - 255 * pixels(seed)).max() <= 1
        assert record.white == white
        assert record.sha256 == hashlib.sha256((tmp_path / "out" / record.path).read_bytes()).hexdigest()
        source = tmp_path / "in/normal" / f"n{seed}.tif"
        assert record.source_sha256 == hashlib.sha256(source.read_bytes()).hexdigest()
        assert (record.sha256 == record.source_sha256) == (white == 65535)  # a full range is stored as it is
    said = f"part: files of more than 8 bits hold values up to {white}, so {white} counts as white"
    assert [message for message in caplog.messages if message.startswith(said)] or white == 65535
    assert len(caplog.messages) == (white != 65535)


def test_a_depth_that_was_set_is_taken_and_what_exceeds_it_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    records = collected(tmp_path, 4095, np.uint16, bits=10)
    assert {record.white for record in records} == {1023}
    assert caplog.messages == ["part: 12 images with values above 1023, which are cut off (first: normal/n0.tif)"]
    assert collected(tmp_path / "b", 4095, np.uint16, bits=12)[0].white == 4095
    assert len(caplog.messages) == 1


def test_an_image_that_uses_a_tenth_of_the_range_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dark = tmp_path / "in/normal/dark.tif"
    dark.parent.mkdir(parents=True)
    Image.fromarray(np.full((24, 24), 400, np.uint16)).save(dark)
    collected(tmp_path, 4095, np.uint16, bits=12)
    (line,) = caplog.messages
    assert "1 image with less than a tenth of the grey values in use" in line
    assert "(first: normal/dark.tif)" in line
    caplog.clear()
    Image.fromarray(np.full((24, 24), 15, np.uint8)).save(tmp_path / "in/normal/nibble.png")
    collected(tmp_path, 4095, np.uint16, bits=12)
    assert "2 images with less than a tenth" in caplog.messages[0]


@pytest.mark.parametrize(("white", "kind"), [(4095, np.uint16), (255, np.int32), (65535, np.uint16)])
def test_a_new_image_is_judged_at_the_depth_of_training(tmp_path: Path, white: int, kind: Any) -> None:
    """The same pixels and the same identity as in the stages."""
    record = collected(tmp_path, white, kind)[0]
    source = tmp_path / "in" / record.path.split("/", 2)[2].removesuffix(".tif.tif")
    image = load_image(str(source), (16,), DataConfig(), record.white)
    stored = to_square(decode((tmp_path / "out" / record.path).read_bytes()), 16)
    assert image.squares[16].tobytes() == stored.tobytes()
    assert image.identity == record.sha256
    assert image.sha256 == record.source_sha256
    training = {"width": [24, 24], "height": [24, 24], "modes": [record.mode]}
    assert describe_differences(image, training, record.white) == ""
    brighter = np.asarray(Image.open(source)).astype(np.int32) + 5000 * 16
    Image.fromarray(brighter).save(tmp_path / "b.tif")
    note = describe_differences(load_image(str(tmp_path / "b.tif"), (16,), DataConfig(), white), training, white)
    assert f"in training {white} counts as white" in note


@given(st.integers(1, 2**31 - 1))
def test_the_least_depth_that_holds_the_largest_value(largest: int) -> None:
    white = choose_white("auto", [1, largest])
    assert white >= largest
    smaller = [2**bits - 1 for bits in (8, 10, 12, 14, 16) if 2**bits - 1 < white]
    assert all(depth < largest for depth in smaller)
    assert white <= max(255, 4 * largest)
    assert choose_white(14, [largest]) == 16383
