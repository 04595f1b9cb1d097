"""KolektorSDD2: the label of an image is in its mask."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stages.download.sources.conftest import Find, defect_types, masks, splits, write_image


def kolektor(root: Path, top: str = "") -> Path:
    """Two good images and a defective one in each part, and the archive's stray files."""
    for split, start in (("train", 10000), ("test", 20000)):
        for i, value in enumerate((0, 0, 1)):
            write_image(root / top / split / f"{start + i}.png")
            write_image(root / top / split / f"{start + i}_GT.png", value)
    for name in ("10001 (copy).png", "10001_GT (copy).png"):
        write_image(root / top / "train" / name, 255)
    return root


@pytest.mark.parametrize("top", ["", "KolektorSDD2"])
def test_kolektor_sdd2(tmp_path: Path, find: Find, top: str) -> None:
    images, rejected = find("kolektor_sdd2", kolektor(tmp_path, top), "surface")
    assert rejected == []
    assert splits(images) == {  # without the defect of the training part
        "surface:train/10000.png": "train",
        "surface:train/10001.png": "train",
        "surface:test/20000.png": "test",
        "surface:test/20001.png": "test",
        "surface:test/20002.png": "test",
    }
    assert defect_types(images) == {"surface:test/20002.png": "defect"}
    image = images["surface:test/20002.png"]
    assert masks(image, tmp_path / top) == ["test/20002_GT.png"]
    assert image.mask_above == 0


def test_kolektor_sdd2_grouped_has_all_defects(tmp_path: Path, find: Find) -> None:
    images, _ = find("kolektor_sdd2", kolektor(tmp_path), split="grouped")
    assert set(defect_types(images)) == {"part:test/20002.png", "part:train/10002.png"}


def test_kolektor_sdd2_needs_readable_masks(tmp_path: Path, find: Find) -> None:
    root = kolektor(tmp_path)
    (root / "test/20000_GT.png").unlink()
    (root / "test/20001_GT.png").write_bytes(b"no image")
    (root / "test/20002.png").unlink()
    images, rejected = find("kolektor_sdd2", root)
    assert not [name for name in images if "test" in name]
    reasons = {Path(file.path).name: file.reason for file in rejected}
    assert "its mask 20000_GT.png is missing" in reasons.pop("20000.png")
    assert "its mask 20001_GT.png cannot be read: not an image" in reasons.pop("20001.png")
    assert "a mask without an image" in reasons.pop("20002_GT.png")
    assert not reasons
