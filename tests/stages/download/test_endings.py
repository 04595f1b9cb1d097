"""Files by their ending and by their first bytes: what is an image is read, what is not is counted."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.judge.images import resolve_paths, unread_below
from pipeline.judge.summary import Summary
from pipeline.retrain.inbox import scan_inbox
from stages.download.config import DataConfig
from stages.download.manifest import collect
from stages.download.sources.files import describe_unread, unread_files

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
READ = {
    "a.jfif": "JPEG",
    "b.jpe": "JPEG",
    "c.image": "PNG",
    "d": "TIFF",
    "e.dat": "BMP",
    "f.heic": "WEBP",
    "g.png": "PNG",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Sixty files as of a telephone and a converter: images under many endings, files of HEIC, and notes."""
    normal = tmp_path / "in/normal"
    normal.mkdir(parents=True)
    for number in range(6):
        for name, kind in READ.items():
            pixels = np.random.default_rng(len(list(normal.iterdir()))).integers(0, 256, (24, 24, 3), np.uint8)
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, kind)
            (normal / f"{number}{name}").write_bytes(file.getvalue())
        (normal / f"{number}x.heic").write_bytes(HEIC)
        (normal / f"{number}x.cr2").write_bytes(b"raw")
        (normal / f"{number}.txt").write_text("no image")
    return tmp_path / "in"


def config(folder: Path, **changes: object) -> DataConfig:
    return DataConfig(source="folder", folder=str(folder), categories=("part",), **changes)


def test_a_folder_is_read_whatever_the_endings(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    records, rejected = collect(config(folder), tmp_path / "out")
    assert len(records) == 6 * len(READ)
    assert rejected == []
    expected = "left out: 6 .cr2 (first: normal/0x.cr2), 6 .heic (first: normal/0x.heic)"
    assert [message for message in caplog.messages if expected in message]


def test_a_list_of_labels_is_read_alike(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = [f"normal/{number}{name}," for number in range(6) for name in READ]
    (folder / "labels.csv").write_text("\n".join(["path,label", *lines]))
    records, _ = collect(config(folder, labels="labels.csv"), tmp_path / "out")
    assert len(records) == 6 * len(READ)
    assert any("6 .heic" in message for message in caplog.messages)


def test_prediction_counts_what_it_does_not_read(folder: Path, tmp_path: Path) -> None:
    images, _ = resolve_paths([str(folder)], tmp_path / "none")
    assert len(images) == 6 * len(READ)
    unread = describe_unread(unread_below([str(folder), str(folder / "normal/0c.image")]))
    assert f"6 .cr2 (first: {folder}/normal/0x.cr2), 6 .heic" in unread
    assert Summary(unread).lines()[-1].endswith(f"; not read: {unread}")
    assert "not read" not in Summary().lines()[-1]


def test_the_inbox_takes_them_and_names_the_rest(folder: Path) -> None:
    scan = scan_inbox(folder, config(folder), {}, lambda: None)
    assert len(scan.new) == 6 * len(READ)
    assert len(unread_files(folder)) == 12
