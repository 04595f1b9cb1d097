"""Importing files into the data set: masks, official splits, the index, and that no result depends on chance."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.download.found import Rejected, SourceImage
from stages.download.index import StatIndex
from stages.download.manifest import ImageRecord, collect
from stages.download.phash import perceptual_hash
from stages.download.split import official_split_of, split_of
from stages.images import decode_mask
from stages.types import UserError
from tests.stages.download.made import CONFIG, broken, defect, mask, settle
from tests.stages.download.test_manifest import picture


def collected(folder: Path, **arguments: object) -> tuple[dict[str, ImageRecord], list[Rejected]]:
    records, rejected = collect(CONFIG, folder / "out", **arguments)  # type: ignore[arg-type]
    return {record.path.removeprefix("images/part/"): record for record in records}, rejected


def marked(folder: Path, record: ImageRecord) -> set[int]:
    """Columns of the first row that readers take for defective."""
    return set(np.flatnonzero(decode_mask((folder / "out" / record.mask_path).read_bytes())[0]).tolist())


def test_one_mask_is_copied_as_it_is(source_images: list, tmp_path: Path) -> None:
    given_mask = mask(tmp_path / "m.BMP", {0: 127, 1: 128, 2: 255})
    source_images.append(defect(tmp_path, given_mask))
    records, _ = collected(tmp_path)
    assert records["bad.png"].mask_path == "masks/part/bad.png.bmp"
    assert (tmp_path / "out" / "masks/part/bad.png.bmp").read_bytes() == given_mask.read_bytes()
    assert marked(tmp_path, records["bad.png"]) == {1, 2}


@pytest.mark.parametrize(
    ("above", "values", "expected"),
    [(0, [{1: 1, 2: 255}], {1, 2}), (127, [{1: 128, 3: 127}, {2: 255}], {1, 2}), (200, [{1: 200, 2: 201}], {2})],
)
def test_other_masks_become_one_png(
    source_images: list, tmp_path: Path, above: int, values: list[dict[int, int]], expected: set[int]
) -> None:
    masks = [mask(tmp_path / f"m{i}.bmp", value) for i, value in enumerate(values)]
    source_images.append(defect(tmp_path, *masks, above=above))
    records, _ = collected(tmp_path)
    record = records["bad.png"]
    assert record.mask_path == "masks/part/bad.png.png"
    assert marked(tmp_path, record) == expected
    assert set(np.unique(np.asarray(Image.open(tmp_path / "out" / record.mask_path)))) == {0, 255}


@pytest.mark.parametrize(
    ("masks", "reason"),
    [
        (lambda at: [mask(at / "m.png", {0: 255}, 12)], "its mask m.png is 12x12, the image 24x24"),
        (lambda at: [mask(at / "a.png", {0: 9}), mask(at / "b.png", {}, 5)], "its mask b.png is 5x5, another .* 24x24"),
        (lambda at: [broken(at / "m.png")], "its mask m.png: not an image"),
        (lambda at: [at / "none.png"], "its mask none.png: it is not there"),
    ],
)
def test_masks_that_cannot_be_used(
    source_images: list, tmp_path: Path, masks: Callable[[Path], list[Path]], reason: str
) -> None:
    source_images.append(defect(tmp_path, *masks(tmp_path)))
    settle(tmp_path)
    index = StatIndex(tmp_path / "index.sqlite")
    for _ in range(2):  # from the files, and from the index
        records, rejected = collected(tmp_path, index=index)
        assert "bad.png" not in records
        assert len(rejected) == 1
        assert re.search(reason, rejected[0].reason)
        assert not (tmp_path / "out/images/part/bad.png").exists()
        assert not (tmp_path / "out/masks").exists()


def test_a_mask_that_marks_nothing_counts_as_none_and_is_said(
    source_images: list, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source_images.append(defect(tmp_path, mask(tmp_path / "m.png", {0: 127})))
    records, rejected = collected(tmp_path)
    assert (records["bad.png"].mask_path, records["bad.png"].label, rejected) == ("", 1, [])
    expected = "part: 1 image of a defect with a mask that marks no pixel: it counts as without a mask (first: bad.png)"
    assert expected in caplog.messages


def test_a_normal_image_has_no_defective_pixels(source_images: list, tmp_path: Path) -> None:
    source_images.append(defect(tmp_path, mask(tmp_path / "m.png", {0: 255, 1: 255}), defect_type=""))
    _, rejected = collected(tmp_path)
    assert [file.reason for file in rejected] == ["it counts as normal, and its mask m.png marks 2 defective pixels"]


def test_what_the_source_rejects_is_listed_and_counts(source_images: list, tmp_path: Path) -> None:
    source_images.append(Rejected("lonely_mask.png", "part", "a mask without an image"))
    assert collected(tmp_path)[1] == source_images[-1:]
    with pytest.raises(UserError, match=r"1 of 31 images .*lonely_mask\.png: a mask without"):
        collect(CONFIG.model_copy(update={"max_rejected_fraction": 0.01}), tmp_path / "out")


def test_names_that_lead_out_are_refused(source_images: list, tmp_path: Path) -> None:
    picture(tmp_path / "x.png", 1)
    source_images += [SourceImage(tmp_path / "x.png", name, "part", "x") for name in ("../../../x.png", "/x.png")]
    _, rejected = collected(tmp_path)
    assert {file.reason for file in rejected} == {"its name leads out of the category's folder"}


def test_the_rows_say_what_is_in_the_files(source_images: list, tmp_path: Path) -> None:
    records, _ = collected(tmp_path)
    for record in records.values():
        data = (tmp_path / "out" / record.path).read_bytes()
        image = Image.open(io.BytesIO(data)).convert("RGB")
        assert record.sha256 == hashlib.sha256(data).hexdigest()
        assert (record.width, record.height) == image.size
        assert record.phash == perceptual_hash(image)


def group_of(split: str, fold: int = 0) -> str:
    """A group that the hash puts into this split."""
    return next(str(i) for i in range(1000) if split_of(fold, str(i), True) == split)


def test_official_splits() -> None:
    train, validation, test = (group_of(name) for name in ("train", "validation", "test"))
    for group in (train, validation, test):
        assert official_split_of(0, group, True, "test", False) == "test"
        assert official_split_of(0, group, True, "train", True) == "train"
        assert official_split_of(0, group, True, "validation", True) == "validation"
        assert official_split_of(0, group, False, "train", True) == "test"
        assert official_split_of(0, group, True, "", True) == split_of(0, group, True)
    assert official_split_of(0, validation, True, "train", False) == "validation"
    assert official_split_of(0, train, True, "train", False) == "train"
    assert official_split_of(0, test, True, "train", False) == "train"


def test_official_validation_is_looked_for_by_category(source_images: list, tmp_path: Path) -> None:
    groups = [group_of("train"), group_of("validation")]
    source_images.clear()
    for category in ("a", "b"):
        for i, split in enumerate(["train", "train", "train", "train", "test"] + ["validation"] * (category == "a")):
            picture(tmp_path / category / f"{i}.png", i)
            source_images.append(
                SourceImage(tmp_path / category / f"{i}.png", f"{i}.png", category, groups[i % 2], split=split)
            )

    def splits(how: str) -> dict[str, list[str]]:
        wanted = CONFIG.model_copy(update={"categories": ("a", "b"), "split": how})
        records, _ = collect(wanted, tmp_path / "out")
        return {name: [r.split for r in records if r.category == name] for name in ("a", "b")}

    assert splits("official") == {
        "a": ["train"] * 4 + ["test", "validation"],
        "b": ["train", "validation", "train", "validation", "test"],
    }
    assert splits("grouped")["a"] == ["train", "validation"] * 3


class Writer:
    """A process that writes to a file just after each of its first readings."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, file: Path, times: int) -> None:
        self.file, self.left, self.read = file, times, Path.read_bytes
        monkeypatch.setattr(Path, "read_bytes", lambda path: self(path))

    def __call__(self, path: Path) -> bytes:
        data = self.read(path)
        if path == self.file and self.left:
            self.left -= 1
            picture(path, 1000 + self.left, side=24 + self.left)
        return data


def test_a_file_that_changes_while_it_is_read(
    source_images: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "in" / "5.png"
    Writer(monkeypatch, file, 2)
    records, rejected = collected(tmp_path)
    assert rejected == []
    assert records["5.png"].sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    Writer(monkeypatch, file, 9)
    _, rejected = collected(tmp_path)
    assert [file.reason for file in rejected] == ["it changes while it is read"]


def test_a_huge_file_is_not_read(source_images: list, tmp_path: Path) -> None:
    with (tmp_path / "in" / "5.png").open("r+b") as file:
        file.truncate(2**40)  # a hole: it takes no space
    _, rejected = collected(tmp_path)
    assert [file.reason for file in rejected] == [
        "1,099,511,627,776 bytes, more than an image of data.max_pixels can need (816,777,216)"
    ]
