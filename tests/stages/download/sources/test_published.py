"""Published data sets: each on a tiny tree in its publisher's layout."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.types import UserError
from tests.stages.download.sources.conftest import Find, Tree, defect_types, masks, splits, write_image

MVTEC_AD = [
    *(f"bottle/train/good/{i:03d}.png" for i in range(3)),
    "bottle/test/good/000.png",
    "bottle/test/broken_large/000.png",
    "bottle/test/broken_large/001.png",
    "bottle/test/contamination/000.png",
    "bottle/ground_truth/broken_large/000_mask.png",
    "bottle/ground_truth/broken_large/001_mask.png",
    "bottle/ground_truth/contamination/000_mask.png",
    "cable/train/good/000.png",
]
MVTEC_AD2 = [
    "can/train/good/000_regular.png",
    "can/train/good/001_regular.png",
    "can/validation/good/000_regular.png",
    "can/test_public/good/000_regular.png",
    "can/test_public/good/000_overexposed.png",
    "can/test_public/good/001_shift_1.png",
    "can/test_public/bad/000_regular.png",
    "can/test_public/bad/000_underexposed.png",
    "can/test_public/ground_truth/bad/000_regular_mask.png",
    "can/test_public/ground_truth/bad/000_underexposed_mask.png",
    "can/test_private/000_regular.png",
    "can/test_private_mixed/000_mixed.png",
]
MVTEC_LOCO = [
    "pushpins/train/good/000.png",
    "pushpins/validation/good/000.png",
    "pushpins/test/good/000.png",
    "pushpins/test/logical_anomalies/000.png",
    "pushpins/test/structural_anomalies/000.png",
    "pushpins/ground_truth/logical_anomalies/000/000.png",
    "pushpins/ground_truth/logical_anomalies/000/001.png",
    "pushpins/ground_truth/structural_anomalies/000/000.png",
]
BTAD = [
    "01/train/ok/0000.bmp",
    "01/test/ok/0001.bmp",
    "01/test/ko/0000.bmp",
    "01/ground_truth/ko/0000.png",
    "03/train/ok/0000.bmp",
    "03/test/ko/0000.bmp",
    "03/ground_truth/ko/0000.bmp",
]
VISA = [
    *(f"candle/Data/Images/Normal/{i:04d}.JPG" for i in range(4)),
    "candle/Data/Images/Anomaly/000.JPG",
    "candle/Data/Images/Anomaly/001.JPG",
    "candle/Data/Masks/Anomaly/000.png",
    "candle/Data/Masks/Anomaly/001.png",
    "pcb1/Data/Images/Normal/0000.JPG",
]
VISA_SPLIT = """object,split,label,image,mask
candle,train,normal,candle/Data/Images/Normal/0000.JPG,
candle,train,normal,candle/Data/Images/Normal/0001.JPG,
candle,test,normal,candle/Data/Images/Normal/0002.JPG,
candle,test,anomaly,candle/Data/Images/Anomaly/000.JPG,candle/Data/Masks/Anomaly/000.png
candle,test,anomaly,candle/Data/Images/Anomaly/001.JPG,candle/Data/Masks/Anomaly/001.png
pcb1,train,normal,pcb1/Data/Images/Normal/9999.JPG,
"""


@pytest.mark.parametrize("top", ["", "mvtec_anomaly_detection/"])
def test_mvtec_ad(tree: Tree, find: Find, top: str) -> None:
    root = tree([top + path for path in MVTEC_AD])
    images, rejected = find("mvtec_ad", root, "bottle")
    assert rejected == []
    assert splits(images) == {
        **{f"bottle:train/good/{i:03d}.png": "train" for i in range(3)},
        "bottle:test/good/000.png": "test",
        "bottle:test/broken_large/000.png": "test",
        "bottle:test/broken_large/001.png": "test",
        "bottle:test/contamination/000.png": "test",
    }
    assert defect_types(images) == {
        "bottle:test/broken_large/000.png": "broken_large",
        "bottle:test/broken_large/001.png": "broken_large",
        "bottle:test/contamination/000.png": "contamination",
    }
    image = images["bottle:test/broken_large/001.png"]
    assert masks(image, root) == [f"{top}bottle/ground_truth/broken_large/001_mask.png"]
    assert image.mask_above == 127
    assert images["bottle:test/good/000.png"].masks == ()
    assert len({image.group for image in images.values()}) == len(images)  # each image is its own group


def test_several_categories_at_once(tree: Tree, find: Find) -> None:
    images, _ = find("mvtec_ad", tree(MVTEC_AD), "cable", "bottle")
    assert sum(image.category == "bottle" for image in images.values()) == 7
    assert [name for name in images if name.startswith("cable:")] == ["cable:train/good/000.png"]


def test_mvtec_ad2(tree: Tree, find: Find) -> None:
    root = tree(MVTEC_AD2)
    images, rejected = find("mvtec_ad2", root, "can")
    assert rejected == []
    assert splits(images) == {
        "can:train/good/000_regular.png": "train",
        "can:train/good/001_regular.png": "train",
        "can:validation/good/000_regular.png": "validation",
        "can:test_public/good/000_overexposed.png": "test",
        "can:test_public/good/000_regular.png": "test",
        "can:test_public/good/001_shift_1.png": "test",
        "can:test_public/bad/000_regular.png": "test",
        "can:test_public/bad/000_underexposed.png": "test",
    }
    image = images["can:test_public/bad/000_underexposed.png"]
    assert image.defect_type == "bad"
    assert masks(image, root) == ["can/test_public/ground_truth/bad/000_underexposed_mask.png"]


def test_mvtec_ad2_keeps_a_scene_together(tree: Tree, find: Find) -> None:
    images, _ = find("mvtec_ad2", tree(MVTEC_AD2), "can")
    scenes: dict[str, list[str]] = {}
    for image in images.values():
        scenes.setdefault(image.group, []).append(image.name)
    assert sorted(scenes.values()) == [
        ["test_public/bad/000_regular.png", "test_public/bad/000_underexposed.png"],
        ["test_public/good/000_overexposed.png", "test_public/good/000_regular.png"],
        ["test_public/good/001_shift_1.png"],
        ["train/good/000_regular.png"],
        ["train/good/001_regular.png"],
        ["validation/good/000_regular.png"],
    ]


def test_mvtec_loco(tree: Tree, find: Find) -> None:
    root = tree(MVTEC_LOCO)
    images, rejected = find("mvtec_loco", root, "pushpins")
    assert rejected == []
    assert splits(images) == {
        "pushpins:train/good/000.png": "train",
        "pushpins:validation/good/000.png": "validation",
        "pushpins:test/good/000.png": "test",
        "pushpins:test/logical_anomalies/000.png": "test",
        "pushpins:test/structural_anomalies/000.png": "test",
    }
    image = images["pushpins:test/logical_anomalies/000.png"]
    assert image.defect_type == "logical_anomalies"
    folder = "pushpins/ground_truth/logical_anomalies/000"
    assert masks(image, root) == [f"{folder}/000.png", f"{folder}/001.png"]
    assert image.mask_above == 0
    assert len(images["pushpins:test/structural_anomalies/000.png"].masks) == 1


@pytest.mark.parametrize("top", ["", "BTech_Dataset_transformed/"])
def test_btad(tree: Tree, find: Find, top: str) -> None:
    root = tree([top + path for path in BTAD])
    images, rejected = find("btad", root, "01", "03")
    assert rejected == []
    assert splits(images) == {
        "01:train/ok/0000.bmp": "train",
        "01:test/ok/0001.bmp": "test",
        "01:test/ko/0000.bmp": "test",
        "03:train/ok/0000.bmp": "train",
        "03:test/ko/0000.bmp": "test",
    }
    assert defect_types(images) == {"01:test/ko/0000.bmp": "ko", "03:test/ko/0000.bmp": "ko"}
    assert masks(images["01:test/ko/0000.bmp"], root) == [f"{top}01/ground_truth/ko/0000.png"]
    assert masks(images["03:test/ko/0000.bmp"], root) == [f"{top}03/ground_truth/ko/0000.bmp"]


def test_visa_without_a_split_file(tree: Tree, find: Find) -> None:
    root = tree(VISA)
    images, rejected = find("visa", root, "candle")
    assert rejected == []
    assert len(images) == 6
    assert set(splits(images).values()) == {""}
    image = images["candle:Data/Images/Anomaly/001.JPG"]
    assert (image.defect_type, image.mask_above) == ("anomaly", 0)
    assert masks(image, root) == ["candle/Data/Masks/Anomaly/001.png"]


def visa_with_split(tree: Tree, text: str = VISA_SPLIT) -> Path:
    root = tree(VISA)
    (root / "split_csv").mkdir()
    (root / "split_csv" / "1cls.csv").write_text(text)
    return root


def test_visa_with_its_split_file(tree: Tree, find: Find) -> None:
    images, rejected = find("visa", visa_with_split(tree), "candle")  # rows of pcb1 do not matter
    assert splits(images) == {
        "candle:Data/Images/Normal/0000.JPG": "train",
        "candle:Data/Images/Normal/0001.JPG": "train",
        "candle:Data/Images/Normal/0002.JPG": "test",
        "candle:Data/Images/Anomaly/000.JPG": "test",
        "candle:Data/Images/Anomaly/001.JPG": "test",
    }
    assert [Path(file.path).name for file in rejected] == ["0003.JPG"]
    assert "1cls.csv does not name it" in rejected[0].reason


def test_visa_grouped_needs_no_split_file(tree: Tree, find: Find) -> None:
    images, rejected = find("visa", visa_with_split(tree, "broken"), "candle", split="grouped")
    assert (len(images), rejected) == (6, [])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("object,split", "object,part", r"1cls\.csv line 1: no column 'split'; it names object, part, label"),
        ("Normal/0001", "Normal/0000", r"1cls\.csv line 3: candle/.*0000\.JPG is already named in .*line 2"),
        ("Normal/0001", "Normal/7777", r"1cls\.csv line 3: there is no file 'candle/.*7777\.JPG'"),
        ("candle,test,normal", "candle,later,normal", r"1cls\.csv line 4: split 'later'; it is train or test"),
        (
            "normal,candle/Data/Images/Normal/0001",
            "normal,../x/0001",
            r"1cls\.csv line 3: '\.\./x/0001\.JPG' leads out",
        ),
    ],
)
def test_faults_of_the_split_file(tree: Tree, find: Find, old: str, new: str, message: str) -> None:
    root = visa_with_split(tree, VISA_SPLIT.replace(old, new, 1))
    with pytest.raises(UserError, match=message):
        find("visa", root, "candle")


MASK_ORPHANS = [
    ("mvtec_ad", MVTEC_AD, "bottle", "bottle/ground_truth/contamination/007_mask.png", "007"),
    ("mvtec_ad2", MVTEC_AD2, "can", "can/test_public/ground_truth/bad/007_regular_mask.png", "007_regular"),
    ("mvtec_loco", MVTEC_LOCO, "pushpins", "pushpins/ground_truth/logical_anomalies/007/000.png", "007"),
    ("btad", BTAD, "01", "01/ground_truth/ko/0007.png", "0007"),
    ("visa", VISA, "candle", "candle/Data/Masks/Anomaly/007.png", "007"),
]


@pytest.mark.parametrize(("source", "paths", "category", "orphan", "stem"), MASK_ORPHANS)
def test_a_mask_without_an_image(
    tree: Tree, find: Find, source: str, paths: list[str], category: str, orphan: str, stem: str
) -> None:
    root = tree([*paths, orphan])
    _, rejected = find(source, root, category)
    assert [file.path for file in rejected] == [str(root / orphan)]
    assert rejected[0].category == category
    assert f"a mask without an image: there is no defective image {stem!r}" in rejected[0].reason


@pytest.mark.parametrize(
    ("source", "paths", "there"),
    [
        ("mvtec_ad", MVTEC_AD, "bottle, cable"),
        ("mvtec_ad2", MVTEC_AD2, "can"),
        ("mvtec_loco", MVTEC_LOCO, "pushpins"),
        ("btad", BTAD, "01, 03"),
        ("visa", VISA, "candle, pcb1"),
    ],
)
def test_a_category_that_the_data_set_lacks(tree: Tree, find: Find, source: str, paths: list[str], there: str) -> None:
    with pytest.raises(UserError, match=rf"data\.categories: .* has no 'kettle'; it has {there}$"):
        find(source, tree(paths), there.split(", ")[0], "kettle")


@pytest.mark.parametrize(
    "source", ["mvtec_ad", "mvtec_ad2", "mvtec_loco", "btad", "visa", "kolektor_sdd2", "magnetic_tile"]
)
def test_another_layout(tree: Tree, find: Find, source: str) -> None:
    root = tree(["pictures/a.png", "more/b.png"])
    with pytest.raises(
        UserError, match=r"does not hold .*(good|ok|Normal|_GT|MT_Free).*; it holds more/, pictures/; arrange"
    ):
        find(source, root)
    with pytest.raises(UserError, match="nowhere is not a folder"):
        find(source, root / "nowhere")


@pytest.mark.parametrize("source", ["kolektor_sdd2", "magnetic_tile"])
def test_data_sets_of_one_kind(tree: Tree, find: Find, source: str) -> None:
    with pytest.raises(UserError, match=f"{source} has a single kind of part, but a, b are several"):
        find(source, tree([]), "a", "b")


def test_hidden_files_and_those_of_macos_are_passed_over(tree: Tree, find: Find) -> None:
    root = tree([*(f"top/{path}" for path in MVTEC_AD), "__MACOSX/top/bottle/train/good/._000.png"])
    write_image(root / "top/bottle/train/good/._000.png")
    (root / "top/bottle/train/good/readme.txt").write_text("")
    assert len(find("mvtec_ad", root, "bottle")[0]) == 7
