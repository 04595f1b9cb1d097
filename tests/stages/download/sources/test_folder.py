"""The user's own images: globs, masks, groups, and possible folders."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from stages.download.config import DataConfig
from stages.download.found import SourceImage
from stages.download.sources.globs import regex
from stages.types import UserError
from tests.stages.download.sources.conftest import Find, Tree, find_images

OWN = [
    "normal/a.png",
    "normal/lot 1/b.JPG",
    "defect/scratch/a.png",
    "defect/scratch/deep/a.png",
    "defect/dent/c.tiff",
    "masks/scratch/a.png",
    "masks/scratch/deep/a.png",
    "masks/dent/c.png",
]


def masks(images: dict[str, SourceImage], root: Path) -> dict[str, list[str]]:
    return {
        image.name: [mask.relative_to(root).as_posix() for mask in image.masks]
        for image in images.values()
        if not image.is_good
    }


def test_default_globs(tree: Tree, find: Find) -> None:
    root = tree([*OWN, ".hidden/x.png", "normal/.x.png", "other/x.png", "defect/loose.png"])
    (root / "normal" / "notes.txt").write_text("")
    images, rejected = find("folder", root)
    assert rejected == []
    assert {image.name: image.defect_type for image in images.values()} == {
        "normal/a.png": "",
        "normal/lot 1/b.JPG": "",
        "defect/scratch/a.png": "scratch",
        "defect/scratch/deep/a.png": "scratch",
        "defect/dent/c.tiff": "dent",
    }
    assert masks(images, root) == {
        "defect/scratch/a.png": ["masks/scratch/a.png"],
        "defect/scratch/deep/a.png": ["masks/scratch/deep/a.png"],
        "defect/dent/c.tiff": ["masks/dent/c.png"],
    }
    assert {(image.group == image.name, image.split, image.mask_above) for image in images.values()} == {
        (True, "", 127)
    }


@pytest.mark.parametrize("top", ["", "part/", "archive/", "archive/part/"])
def test_where_one_category_may_lie(tree: Tree, find: Find, top: str) -> None:
    images, _ = find("folder", tree([top + path for path in OWN]), "part")
    assert len(images) == 5


@pytest.mark.parametrize("top", ["", "archive/"])
def test_several_categories(tree: Tree, find: Find, top: str) -> None:
    root = tree([f"{top}{category}/{path}" for category in ("a", "b") for path in OWN])
    images, _ = find("folder", root, "a", "b")
    assert len(images) == 10
    assert all(image.file == root / top / image.category / image.name for image in images.values())


def test_several_categories_do_not_share_the_folder_itself(tree: Tree, find: Find) -> None:
    with pytest.raises(
        UserError, match=r"no good images of category 'a' in .*root/a.*; .* holds defect/, masks/, normal/$"
    ):
        find("folder", tree(OWN), "a", "b")


def test_own_globs(tree: Tree, find: Find) -> None:
    root = tree(["ok/1.png", "nok_burr/1.png", "nok_burr/1_mask.png", "nok_hole/1.png", "nok_hole/1_mask.png"])
    changes = {"normal": "ok/*.png", "defect": "nok_*/*.png", "mask": "nok_{type}/{stem}_mask.png"}
    images, rejected = find("folder", root, **changes)
    assert rejected == []
    assert {image.name: image.defect_type for image in images.values()} == {
        "ok/1.png": "",
        "nok_burr/1.png": "burr",
        "nok_hole/1.png": "hole",
    }
    assert masks(images, root) == {
        "nok_burr/1.png": ["nok_burr/1_mask.png"],
        "nok_hole/1.png": ["nok_hole/1_mask.png"],
    }


def test_a_defect_without_a_folder_of_its_type(tree: Tree, find: Find) -> None:
    root = tree(["good/1.png", "bad/1.png", "bad/2.png", "truth/1.bmp"])
    images, _ = find("folder", root, normal="good/**", defect="bad/*.png", mask="truth/{stem}.*")
    assert {image.name: image.defect_type for image in images.values() if not image.is_good} == {
        "bad/1.png": "defect",
        "bad/2.png": "defect",
    }
    assert masks(images, root) == {"bad/1.png": ["truth/1.bmp"], "bad/2.png": []}


def test_the_longest_name_has_the_mask(tree: Tree, find: Find) -> None:
    root = tree(["normal/x.png", "defect/t/1.png", "defect/t/10.png", "masks/t/1_a.png", "masks/t/10_a.png"])
    images, rejected = find("folder", root, mask="masks/{type}/{stem}*")
    assert rejected == []
    assert masks(images, root) == {"defect/t/1.png": ["masks/t/1_a.png"], "defect/t/10.png": ["masks/t/10_a.png"]}


def test_several_masks_of_an_image(tree: Tree, find: Find) -> None:
    root = tree(["normal/x.png", "defect/t/1.png", "masks/t/1/000.png", "masks/t/1/001.png"])
    images, _ = find("folder", root, mask="masks/{type}/{stem}/*.png")
    assert masks(images, root) == {"defect/t/1.png": ["masks/t/1/000.png", "masks/t/1/001.png"]}


def test_a_mask_may_be_named_without_the_folders_between(tree: Tree, find: Find) -> None:
    root = tree(["normal/x.png", "defect/t/deep/1.png", "masks/t/1.png"])
    assert masks(find("folder", root)[0], root) == {"defect/t/deep/1.png": ["masks/t/1.png"]}


def test_a_mask_that_fits_two_images(tree: Tree, find: Find) -> None:
    root = tree(["normal/x.png", "defect/t/p/1.png", "defect/t/q/1.png", "masks/t/1.png"])
    with pytest.raises(
        UserError, match=r"masks/t/1\.png: .* it is the mask of defect/t/[pq]/1\.png and of defect/t/[pq]/1"
    ):
        find("folder", root)


def test_a_mask_without_an_image(tree: Tree, find: Find) -> None:
    root = tree([*OWN, "masks/dent/d.png", "masks/burn/a.png"])
    _, rejected = find("folder", root)
    assert sorted(file.path for file in rejected) == [str(root / "masks/burn/a.png"), str(root / "masks/dent/d.png")]
    assert all("a mask without an image" in file.reason for file in rejected)


def test_an_image_that_is_good_and_bad(tree: Tree, find: Find) -> None:
    with pytest.raises(UserError, match=r"defect/\w+/\w.*: data\.normal and data\.defect both match it"):
        find("folder", tree(OWN), normal="**")


def test_unicode_and_spaces(tree: Tree, find: Find) -> None:
    paths = ["normal/Prüfling 1 – grün.png", "defect/Kratzer ä/傷 [1].png", "masks/Kratzer ä/傷 [1].png"]
    images, rejected = find("folder", tree(paths), group_pattern=r"Prüfling (\d)")
    assert rejected == []
    assert {image.name for image in images.values()} == set(paths[:2])
    assert images["part:normal/Prüfling 1 – grün.png"].group == "1"
    assert len(images["part:defect/Kratzer ä/傷 [1].png"].masks) == 1


def test_linked_folders_are_followed_once(tree: Tree, tmp_path: Path, find: Find) -> None:
    root = tree(["normal/a.png"])
    outside = tmp_path / "outside"
    tree(["x.png"]).joinpath("x.png").rename((outside.mkdir(), outside / "x.png")[1])
    (root / "normal" / "linked").symlink_to(outside)
    (root / "normal" / "loop").symlink_to(root / "normal")
    (root / "normal" / "gone.png").symlink_to(root / "nothing.png")
    assert set(find("folder", root)[0]) == {"part:normal/a.png", "part:normal/linked/x.png"}


def test_no_folder_and_no_normals(tree: Tree, find: Find) -> None:
    with pytest.raises(UserError, match=r"data\.folder: .*root/nowhere is not a folder; put the images there"):
        find("folder", tree([]) / "nowhere")
    with pytest.raises(UserError, match=r"no good images of category 'part' in .*'normal/\*\*'.* holds nothing$"):
        find("folder", tree([]))
    with pytest.raises(UserError, match=r"no good images of category 'part' in .* holds defect/$"):
        find("folder", tree(["defect/t/a.png"]))


@pytest.mark.skipif(os.name == "nt", reason="names are text on Windows")
def test_a_name_that_is_no_text(tree: Tree, find: Find) -> None:
    root = tree(["normal/a.png"])
    (root / os.fsdecode(b"normal/\xff.png")).write_bytes(b"")
    images, rejected = find("folder", root)
    assert set(images) == {"part:normal/a.png"}
    assert [(file.path, file.reason) for file in rejected] == [
        (f"{root}/normal/?.png", "its name is not valid UTF-8; rename it")
    ]


@pytest.mark.parametrize(
    ("glob", "matches", "others"),
    [
        ("normal/**", ["normal/a", "normal/b/c"], ["normal", "xnormal/a"]),
        ("**/good/*.png", ["good/a.png", "x/y/good/a.png"], ["xgood/a.png", "good/b/a.png"]),
        ("a/**/b", ["a/b", "a/x/b", "a/x/y/b"], ["ab", "a/xb"]),
        ("?[ab][!c].png", ["xad.png", "äbb.png"], ["xcd.png", "/ad.png", "xac.png", "xa/.png"]),
        ("a.b", ["a.b"], ["axb", "A.b"]),
        ("[^]x", ["^x"], ["ax"]),
        ("{type}/{stem}", ["t/s", "t/s/r"], ["s"]),
    ],
)
def test_globs(glob: str, matches: list[str], others: list[str]) -> None:
    assert [path for path in [*matches, *others] if regex(glob).fullmatch(path)] == matches


@pytest.mark.parametrize(
    "changes",
    [
        {"normal": "/abs/*"},
        {"defect": "../*/**"},
        {"mask": "masks/{type}/all.png"},
        {"mask": "{stem}/{stem}.png"},
        {"labels": "../labels.csv"},
        {"normal": "[b-a]"},
        {"normal": ""},
    ],
)
def test_bad_globs_are_refused(changes: dict[str, str]) -> None:
    with pytest.raises(
        ValidationError, match=r"below the category's folder|\{stem\}.* exactly once|empty or reversed set"
    ):
        DataConfig.model_validate({"source": "folder", **changes})


NAMES = st.sampled_from(["normal", "Normal", "defect", "masks", "a", "A", "part", "t.png", "ä", "ä", "b c", ".x"])
FILES = st.sampled_from(
    ["a.png", "A.png", "a.PNG", "b.jpg", "a_mask.png", "ß.png", "SS.png", ".png", "x.txt", "a [1].bmp", "*"]
)
PATHS = st.lists(
    st.tuples(st.lists(NAMES, max_size=4), FILES).map(lambda parts: "/".join([*parts[0], parts[1]])), max_size=12
)
LIKELY = st.lists(
    st.tuples(
        st.sampled_from(["normal/", "defect/t/", "defect/u/d/", "masks/t/", "masks/u/d/", "part/normal/"]), FILES
    ).map("".join),
    max_size=12,
)
GOOD = [["normal/z.png", "defect/t/z.png", "masks/t/z.png"], ["part/normal/z.png"], ["z.txt"]]
GLOBS = st.fixed_dictionaries(
    {},
    optional={
        "normal": st.sampled_from(["normal/**", "**", "**/*.png", "normal/*", "[!d]*/**"]),
        "defect": st.sampled_from(["defect/*/**", "**/*/a*", "d*/*/*.png", "x/*"]),
        "mask": st.sampled_from(["masks/{type}/{stem}.*", "**/{stem}_mask.png", "masks/**/{stem}*", "{stem}/*"]),
        "group_pattern": st.sampled_from([r"(a)|b", r"", r"\d+"]),
        "categories": st.sampled_from([("part",), ("a", "part")]),
    },
)


@settings(deadline=None, max_examples=150)
@given(PATHS, LIKELY, st.sampled_from(GOOD), GLOBS)
def test_whatever_the_tree(paths: list[str], likely: list[str], good: list[str], changes: dict[str, object]) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        written = [path for path in [*good, *paths, *likely] if write(root / path)]
        try:
            images, rejected = find_images("folder", root, **{"categories": ("part",), **changes})
        except UserError as fault:
            assert "\n" not in str(fault)
            return
        names = [(image.category, image.name.casefold()) for image in images.values()]
        assert len(set(names)) == len(names)
        files = [image.file for image in images.values()]
        assert len(set(files)) == len(files)
        assert {file.relative_to(root).as_posix() for file in files} <= set(written)
        used = {mask for image in images.values() for mask in image.masks} | {Path(file.path) for file in rejected}
        assert not used & set(files)
        assert all(re.search(r"\.(png|jpg|bmp)$", str(file), re.IGNORECASE) for file in files)


def write(path: Path) -> bool:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    except OSError:  # a folder of that name is there, or a file where a folder is needed
        return False
    return True
