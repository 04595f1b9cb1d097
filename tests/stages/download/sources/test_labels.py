"""The user's own images as a CSV file lists them."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.types import UserError
from tests.stages.download.sources.conftest import Find, Tree

PATHS = ["day 1/a.png", "day 1/b.png", "day 2/c.png", "day 2/c_mask.png", "day 2/d.png"]
TABLE = """path,label,group,mask,split
day 1/a.png,,lot1,,train
./day 1/b.png, Normal ,,,
day 2/c.png,dent,lot2,day 2/c_mask.png,test

day 2/d.png,"scratch, deep",lot2,,
"""


def written(tree: Tree, text: str, folder: str = "") -> Path:
    root = tree(folder + path for path in PATHS)
    (root / folder / "labels.csv").write_bytes(text.encode())
    return root


@pytest.mark.parametrize("folder", ["", "part/", "archive/", "archive/part/"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_a_table(tree: Tree, find: Find, folder: str, start: str) -> None:
    root = written(tree, start + TABLE, folder)
    images, rejected = find("folder", root, labels="labels.csv")
    assert rejected == []
    assert {image.name: (image.defect_type, image.group, image.split) for image in images.values()} == {
        "day 1/a.png": ("", "lot1", "train"),
        "day 1/b.png": ("", "day 1/b.png", ""),
        "day 2/c.png": ("dent", "lot2", "test"),
        "day 2/d.png": ("scratch, deep", "lot2", ""),
    }
    assert [image.masks for image in images.values()] == [(), (), (root / folder / "day 2/c_mask.png",), ()]


def test_two_columns_are_enough(tree: Tree, find: Find) -> None:
    images, _ = find("folder", written(tree, "label,path\n,day 1/a.png\n"), labels="labels.csv")
    assert list(images) == ["part:day 1/a.png"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("path,label", "file,label", r"labels\.csv line 1: no column 'path'; it names file, label, group, mask, split"),
        (TABLE, "", r"labels\.csv line 1: no column 'path'; it names nothing"),
        ("day 1/a.png", "day 1/z.png", r"line 2: there is no file 'day 1/z\.png' below .*; correct the path"),
        ("day 1/a.png", "day 1\\a.png", r"line 2: there is no file .*; write / between folders"),
        ("day 1/a.png", "../day 1/a.png", r"line 2: '\.\./day 1/a\.png' leads out of"),
        ("day 1/a.png", "/etc/a.png", r"line 2: '/etc/a\.png' leads out of"),
        ("day 1/a.png", "day 1", r"line 2: there is no file 'day 1'"),
        ("day 1/a.png", "labels.csv", r"line 2: 'labels\.csv' is not an image"),
        ("day 1/a.png", "", r"line 2: column 'path' is empty"),
        ("day 1/a.png", "n" * 300 + ".png", r"line 2: there is no file 'n"),
        ("day 1/a.png", "a\0.png", r"labels\.csv.*(there is no file|not a CSV)"),
        ("./day 1/b.png", "day 1//a.png", r"line 3: day 1/a\.png is already named in .*labels\.csv line 2"),
        ("lot1,,train", "lot1,,learn", r"line 2: split 'learn'; it is train, validation, test or empty"),
        (",test", ",train", r"line 4: a defect \(dent\) in split train; detectors learn from good images only"),
        ("lot1,,", "lot1,day 2/c_mask.png,", r"line 2: day 1/a\.png is good but has the mask day 2/c_mask\.png"),
        ("day 2/c_mask.png,", "day 2/e.png,", r"line 4: there is no file 'day 2/e\.png'"),
        ('"scratch, deep"', "scratch, deep", r"line 6: not 5 cells as in line 1; quote a cell that holds ','"),
        (",,lot1,,train", "", r"line 2: not 5 cells"),
        ('"scratch, deep",lot2,,', '"scratch', r"labels\.csv: not a CSV file in UTF-8 \(unexpected end of data\)"),
    ],
)
def test_faults(tree: Tree, find: Find, old: str, new: str, message: str) -> None:
    assert old in TABLE
    root = written(tree, TABLE.replace(old, new, 1))
    with pytest.raises(UserError, match=message) as fault:
        find("folder", root, labels="labels.csv")
    assert "\n" not in str(fault.value)


def test_not_utf_8(tree: Tree, find: Find) -> None:
    root = written(tree, "")
    (root / "labels.csv").write_bytes("path,label\nday 1/a.png,Dölle\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"labels\.csv: not a CSV file in UTF-8"):
        find("folder", root, labels="labels.csv")


def test_no_such_table_and_no_normals(tree: Tree, find: Find) -> None:
    root = written(tree, "path,label\nday 1/a.png,dent\n")
    with pytest.raises(
        UserError, match=r"data\.labels: there is no .*root/other\.csv; .* holds day 1/, day 2/, labels\.csv"
    ):
        find("folder", root, labels="other.csv")
    with pytest.raises(UserError, match="no image is good; the labels are 'dent'"):
        find("folder", root, labels="labels.csv")
