"""Magnetic tiles: a tiny tree, and the part of the real data set where it is available."""

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
    images, rejected = find("magnetic_tile", tree([top + path for path in TREE]), "tile")
    assert rejected == []
    assert {image.name: image.defect_type for image in images.values() if not image.is_good} == {
        "MT_Crack/Imgs/exp1_num_552.jpg": "crack",
        "MT_Uneven/Imgs/exp2_num_260.jpg": "uneven",
    }
    assert sum(image.is_good for image in images.values()) == 6
    for image in images.values():
        assert image.masks == (() if image.is_good else (image.file.with_suffix(".png"),))
        assert (image.mask_above, image.split) == (127, "")


def test_groups_span_exposures_and_types(tree: Tree, find: Find) -> None:
    images, _ = find("magnetic_tile", tree(TREE), "tile")
    groups = {int(image.file.stem.rsplit("_", 1)[1]): image.group for image in images.values()}
    # steps: 100 -> 250 is 150, no gap; 250 -> 260; 260 -> 401 is 141; 401 -> 552 is 151, a gap
    assert groups == {100: "100", 250: "100", 260: "100", 401: "100", 552: "552"}


def first_of_run(number: int, numbers: set[int]) -> int:
    """Slow reference: step down to the nearest smaller number, as long as it is at most 150 away."""
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
    assert [file.path for file in rejected] == [
        str(root / "MT_Crack/Imgs/exp9_num_9.png")
    ]  # those of MT_Free mean nothing


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the magnetic tiles are not in {SHARED}")
def test_real_tiles(find: Find) -> None:
    images, rejected = find("magnetic_tile", SHARED, "tile")
    assert rejected == []
    counts = Counter(image.defect_type for image in images.values())
    assert counts.pop("") == 737
    assert sum(counts.values()) == 215
    assert set(counts) == {"blowhole", "break", "uneven"}
    numbers = {image.file: int(image.file.stem.split("num_")[1]) for image in images.values()}
    assert {image.file: image.group for image in images.values()} == {
        file: str(first_of_run(number, set(numbers.values()))) for file, number in numbers.items()
    }
    assert [image.file for image in images.values() if not image.is_good and not image.masks] == []
