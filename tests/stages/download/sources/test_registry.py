"""Checks that apply to every source."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import get_args

import pytest

from stages.download.config import SourceName
from stages.download.sources.registry import SOURCES, group_of
from stages.types import UserError
from tests.stages.download.sources.conftest import Find, Tree
from tests.stages.download.sources.test_published import MVTEC_AD


def test_every_source_of_the_parameters_is_there() -> None:
    assert set(SOURCES) == set(get_args(SourceName))


def test_group_pattern_replaces_the_sources_groups(tree: Tree, tmp_path: Path, find: Find) -> None:
    own, _ = find("synthetic", tmp_path, "a", synthetic={"normals": 12, "defects": 0, "side": 32})
    assert Counter(image.group for image in own.values()) == {"lot0": 10, "lot1": 2}
    changes = {"synthetic": {"normals": 12, "defects": 0, "side": 32}, "group_pattern": r"(\d)\.png"}
    replaced, _ = find("synthetic", tmp_path, "a", **changes)
    assert Counter(image.group for image in replaced.values()) == {str(i): 1 + (i < 2) for i in range(10)}
    images, _ = find("mvtec_ad", tree(MVTEC_AD), "bottle", group_pattern="^train|^test")
    assert Counter(image.group for image in images.values()) == {"train": 3, "test": 4}


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        (r"lot(\d+)", "normal/lot12_3.png", "12"),
        (r"lot\d+", "normal/lot12_3.png", "lot12"),
        (r"x(\d)?", "x.png", "x"),
        (r"lot(\d+)", "normal/3.png", "normal/3.png"),
    ],
)
def test_group(pattern: str, name: str, expected: str) -> None:
    assert group_of(pattern, name) == expected


@pytest.mark.parametrize(
    ("first", "second"),
    [("train/good/a.png", "train/good/A.png"), ("train/good/\u00e4.png", "train/good/a\u0308.png")],
)
def test_names_that_differ_in_letter_case_alone(tree: Tree, find: Find, first: str, second: str) -> None:
    root = tree([f"nut/{first}", f"nut/{second}", "cap/train/good/A.png"])
    if not (root / "nut" / first).exists() or len(list((root / "nut/train/good").iterdir())) < 2:
        pytest.skip("this file system takes the two names for one")
    with pytest.raises(
        UserError, match=rf"category 'nut': .*({first} and {second}|{second} and {first}) differ in letter case"
    ):
        find("mvtec_ad", root, "nut")
    assert len(find("mvtec_ad", root, "cap")[0]) == 1


def test_a_category_without_normals(tree: Tree, find: Find) -> None:
    root = tree([path for path in MVTEC_AD if "bottle" not in path or "good" not in path])
    (root / "bottle/train/good").mkdir(parents=True)
    with pytest.raises(UserError, match=r"mvtec_ad has no good images of category 'bottle' in .*root; add some"):
        find("mvtec_ad", root, "bottle")


def test_elpv(tmp_path: Path, find: Find) -> None:
    pytest.importorskip("elpv_dataset")
    images, rejected = find("elpv", tmp_path / "nowhere", "mono", "poly")
    assert rejected == []
    counts = Counter((image.category, image.is_good) for image in images.values())
    assert counts == {("mono", True): 588, ("mono", False): 313, ("poly", True): 920, ("poly", False): 402}
    with_uncertain, _ = find("elpv", tmp_path, "mono", uncertain="defect")
    assert len(with_uncertain) == 1074
    assert {int(image.file.stem.removeprefix("cell")) // 60 == int(image.group) for image in images.values()} == {True}
    with pytest.raises(UserError, match="elpv has no 'multi'; it has mono and poly"):
        find("elpv", tmp_path, "multi")
