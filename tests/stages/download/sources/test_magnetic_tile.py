"""Magnetic tiles: a tiny tree, and the part of the real set where it is at hand."""

from __future__ import annotations

from collections import Counter

import pytest

from stages.download.sources.magnetic_tile import first_frames
from stages.types import UserError
from tests.conftest import ROOT
from tests.stages.download.sources.conftest import Find, Tree

SHARED = ROOT.parent / "shared" / "data" / "magnetic-tile"
NAMES = [
    *(f"MT_Free/Imgs/exp{exposure}_num_{frame}" for exposure in (0, 1) for frame in (100, 250, 401)),
    "MT_Crack/Imgs/exp1_num_552",
    "MT_Uneven/Imgs/exp2_num_260",
]
TREE = [name + ending for name in NAMES for ending in (".jpg", ".png")]


@pytest.mark.parametrize("top", ["", "Magnetic-tile-defect-datasets.-master/"])
def test_tiny_tree(tree: Tree, find: Find, top: str) -> None:
    found, rejected = find("magnetic_tile", tree([top + path for path in TREE]), "tile")
    assert rejected == []
    assert {one.name: one.defect_type for one in found.values() if not one.normal} == {
        "MT_Crack/Imgs/exp1_num_552.jpg": "crack",
        "MT_Uneven/Imgs/exp2_num_260.jpg": "uneven",
    }
    assert sum(one.normal for one in found.values()) == 6
    for one in found.values():
        assert one.masks == (() if one.normal else (one.file.with_suffix(".png"),))
        assert (one.mask_above, one.split) == (127, "")


def test_groups_span_exposures_and_types(tree: Tree, find: Find) -> None:
    found, _ = find("magnetic_tile", tree(TREE), "tile")
    groups = {int(one.file.stem.rsplit("_", 1)[1]): one.group for one in found.values()}
    # steps: 100 -> 250 is 150, no gap; 250 -> 260; 260 -> 401 is 141; 401 -> 552 is 151, a gap
    assert groups == {100: "100", 250: "100", 260: "100", 401: "100", 552: "552"}


def first_of_run(number: int, numbers: set[int]) -> int:
    """Slow reference: step down to the nearest number before, while that is at most 150 away."""
    before = [other for other in numbers if number - 150 <= other < number]
    return first_of_run(max(before), numbers) if before else number


def test_first_frames() -> None:
    assert first_frames([]) == {}
    assert first_frames([500, 1, 1, 151, 302, 303]) == {1: 1, 151: 1, 302: 302, 303: 302, 500: 500}


def test_a_name_without_frame_number(tree: Tree, find: Find) -> None:
    with pytest.raises(UserError, match=r"tile\.jpg: the name holds no frame number"):
        find("magnetic_tile", tree([*TREE, "MT_Free/Imgs/tile.jpg"]))


def test_a_mask_without_an_image(tree: Tree, find: Find) -> None:
    root = tree([*TREE, "MT_Crack/Imgs/exp9_num_9.png", "MT_Free/Imgs/exp9_num_9.png"])
    _, rejected = find("magnetic_tile", root)
    assert [one.path for one in rejected] == [
        str(root / "MT_Crack/Imgs/exp9_num_9.png")
    ]  # those of MT_Free mean nothing


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the magnetic tiles are not in {SHARED}")
def test_real_tiles(find: Find) -> None:
    found, rejected = find("magnetic_tile", SHARED, "tile")
    assert rejected == []
    counts = Counter(one.defect_type for one in found.values())
    assert counts.pop("") == 737
    assert sum(counts.values()) == 215
    assert set(counts) == {"blowhole", "break", "uneven"}
    numbers = {one.file: int(one.file.stem.split("num_")[1]) for one in found.values()}
    assert {one.file: one.group for one in found.values()} == {
        file: str(first_of_run(number, set(numbers.values()))) for file, number in numbers.items()
    }
    assert [one.file for one in found.values() if not one.normal and not one.masks] == []
