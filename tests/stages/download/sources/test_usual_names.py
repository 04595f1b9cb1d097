"""Labels, paths, separators and folders as people write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.download.config import DataConfig
from stages.download.found import SourceImage
from stages.download.sources.registry import SOURCES
from stages.types import UserError


def image(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (24, 24), np.uint8)).save(path)
    return path


def found(source: str, root: Path, category: str = "part", **changes: object) -> list[SourceImage]:
    config = DataConfig(source=source, folder=str(root), categories=(category,), **changes)
    return [entry for entry in SOURCES[config.source](config, root) if isinstance(entry, SourceImage)]


def labelled(root: Path, header: str, *lines: str) -> list[SourceImage]:
    (root / "labels.csv").write_text("\n".join([header, *lines]) + "\n")
    return found("folder", root, labels="labels.csv")


@pytest.mark.parametrize("word", ["Good", "OK", "0", "Normal", "PASS", "iO", ""])
def test_the_usual_words_for_good(tmp_path: Path, word: str) -> None:
    image(tmp_path / "a.png")
    image(tmp_path / "b.png")
    images = labelled(tmp_path, "path,label", f"a.png,{word}", "b.png,1")
    assert [entry.defect_type for entry in images] == ["", "1"]


@pytest.mark.parametrize("word", ["gut", "class A", "2"])
def test_labels_that_are_found_are_named_if_none_is_good(tmp_path: Path, word: str) -> None:
    for name in "abc":
        image(tmp_path / f"{name}.png")
    with pytest.raises(UserError, match=rf"no image is good; the labels are '{word}' \(2\), 'x' \(1\)") as fault:
        labelled(tmp_path, "path,label", f"a.png,{word}", f"b.png,{word}", "c.png,x")
    assert "normal, good, ok, pass, io, 0" in str(fault.value)


@pytest.mark.parametrize("separator", [";", "\t", ","])
def test_the_usual_separators(tmp_path: Path, separator: str) -> None:
    image(tmp_path / "a b.png")
    (entry,) = labelled(tmp_path, f"path{separator}label{separator}group", f"a b.png{separator}ok{separator}lot 1")
    assert (entry.name, entry.group, entry.is_good) == ("a b.png", "lot 1", True)


def test_an_absolute_path_below_the_folder(tmp_path: Path) -> None:
    root = tmp_path / "root"
    path, outside = image(root / "day 1/a.png"), image(tmp_path / "b.png")
    (entry,) = labelled(root, "path,label", f"{path},ok")
    assert (entry.name, entry.file) == ("day 1/a.png", path)
    for other in (outside, Path("/etc/passwd"), root / ".." / "b.png"):
        with pytest.raises(UserError, match="leads out of"):
            labelled(root, "path,label", f"{other},ok")


@pytest.mark.parametrize(
    ("source", "category", "good", "defect", "wrong", "right"),
    [
        ("mvtec_ad", "part", "train/good", "test/cut", "groundtruth", "ground_truth"),
        ("mvtec_ad", "part", "train/good", "test/cut", "Ground Truth", "ground_truth"),
        ("btad", "01", "train/ok", "test/ko", "ground-truth", "ground_truth"),
        ("visa", "part", "Data/Images/Normal", "Data/Images/Anomaly", "Data/mask", "Masks"),
    ],
)
def test_a_folder_of_masks_with_nearly_the_right_name_is_named(
    tmp_path: Path,
    source: str,
    category: str,
    good: str,
    defect: str,
    wrong: str,
    right: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    base = tmp_path / category
    image(base / good / "a.png")
    image(base / defect / "b.png", 1)
    image(base / wrong / "b_mask.png", 2)
    assert len(found(source, tmp_path, category)) == 2
    assert caplog.messages == [f"{base / wrong} is not read: masks belong in {right}/"]
    (base / wrong).rename((base / wrong).with_name(right))
    caplog.clear()
    found(source, tmp_path, category)
    assert caplog.messages == []


def test_own_images_that_no_glob_matches_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    image(tmp_path / "normal/a.png")
    image(tmp_path / "defect/cut/b.png", 1)
    image(tmp_path / "mask/cut/b.png", 2)
    image(tmp_path / "good/c.png", 3)
    assert len(found("folder", tmp_path)) == 2
    (line,) = caplog.messages
    assert "2 images match none of data.normal, data.defect and data.mask" in line
    assert "(first: " in line
