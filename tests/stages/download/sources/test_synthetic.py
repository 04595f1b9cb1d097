"""Rendered parts: the same bytes from the same arguments, and masks that hold every changed pixel."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from stages.download.found import SourceImage
from stages.download.sources import drawing
from stages.download.sources.drawing import DEFECT_TYPES, MIN_SHARE, VISIBLE, render
from tests.stages.download.sources.conftest import Find

SMALL = {"normals": 21, "defects": 9, "side": 32}


def contents(images: dict[str, SourceImage]) -> dict[str, bytes]:
    return {name: b"".join(file.read_bytes() for file in (image.file, *image.masks)) for name, image in images.items()}


def test_what_is_found(tmp_path: Path, find: Find) -> None:
    images, rejected = find("synthetic", tmp_path, "a", "b", synthetic=SMALL)
    assert rejected == []
    for category in ("a", "b"):
        own = [image for image in images.values() if image.category == category]
        assert Counter(image.defect_type for image in own) == {"": 21, "scratch": 3, "stain": 2, "hole": 2, "bent": 2}
        assert Counter(image.group for image in own if image.is_good) == {"lot0": 10, "lot1": 10, "lot2": 1}
        assert {image.split for image in own} == {""}
    for image in images.values():
        assert Image.open(image.file).size == (32, 32)
        assert len(image.masks) == (0 if image.is_good else 1)
        for mask in image.masks:
            assert set(np.unique(np.asarray(Image.open(mask)))) == {0, 255}
    assert len({file for image in images.values() for file in (image.file, *image.masks)}) == 2 * (21 + 9 + 9)


def test_same_arguments_same_bytes(tmp_path: Path, find: Find) -> None:
    first = contents(find("synthetic", tmp_path / "1", "a", synthetic=SMALL)[0])
    assert contents(find("synthetic", tmp_path / "2", "a", synthetic=SMALL)[0]) == first
    more = contents(find("synthetic", tmp_path / "3", "b", "a", synthetic={**SMALL, "normals": 30, "defects": 12})[0])
    assert {name: more[name] for name in first} == first
    assert len(set(more.values())) == len(more)  # no two parts alike, in or between categories
    other = contents(find("synthetic", tmp_path / "1", "a", synthetic={**SMALL, "seed": 1})[0])
    assert not set(other.values()) & set(first.values())


def test_existing_files_are_not_rendered_again(tmp_path: Path, find: Find, monkeypatch: pytest.MonkeyPatch) -> None:
    images, _ = find("synthetic", tmp_path, "a", synthetic=SMALL)
    gone = images["a:defect/hole/00002.png"].file
    before = contents(images)
    gone.unlink()  # as after a kill between the mask and the image
    rendered: list[tuple[int, str]] = []

    def count(seed: int, category: str, number: int, side: int, defect_type: str) -> drawing.RenderedPart:
        rendered.append((number, defect_type))
        return render(seed, category, number, side, defect_type)

    monkeypatch.setattr("stages.download.sources.synthetic.render", count)
    assert contents(find("synthetic", tmp_path, "a", synthetic=SMALL)[0]) == before
    assert rendered == [(2, "hole")]


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**31 - 1),
    st.text(max_size=5),
    st.integers(0, 10**6),
    st.sampled_from([32, 48, 100]),
    st.sampled_from(DEFECT_TYPES),
)
def test_masks_are_what_changed(seed: int, category: str, number: int, side: int, defect_type: str) -> None:
    part = render(seed, category, number, side, defect_type)
    assert part.image.shape == (side, side, 3)
    assert part.mask.shape == (side, side)
    clean = clean_part(seed, category, number, side, defect_type)
    change = np.abs(part.image.astype(int) - clean).max(axis=2)
    assert not change[~part.mask].any()  # outside it nothing changed
    assert (change[part.mask] >= VISIBLE).mean() > 0.5
    assert MIN_SHARE <= part.mask.mean() < 0.5
    assert ndimage.label(part.mask, np.ones((3, 3)))[1] == 1


def clean_part(seed: int, category: str, number: int, side: int, defect_type: str) -> np.ndarray:
    """The same part before its defect, as the function that renders the defect gets it."""
    seen: list[np.ndarray] = []

    def spy(source: np.random.Generator, image: np.ndarray, strength: int) -> np.ndarray:
        seen.append(image.copy())
        return (image + 128) % 256

    original = drawing.DEFECTS
    try:
        drawing.DEFECTS = {**original, defect_type: spy}
        render(seed, category, number, side, defect_type)
    finally:
        drawing.DEFECTS = original
    return seen[0]


def test_a_good_part_has_no_mask_and_is_another_than_the_defective_one() -> None:
    good = render(0, "a", 3, 64)
    assert not good.mask.any()
    assert not np.array_equal(good.image, clean_part(0, "a", 3, 64, "hole"))


def test_categories_look_different_and_parts_of_one_alike() -> None:
    means = {
        category: np.array([render(0, category, number, 64).image.mean(axis=(0, 1)) for number in range(0, 60, 6)])
        for category in ("mono", "bracket", "plate")
    }
    within = max(values.std(axis=0).max() for values in means.values())
    centres = [values.mean(axis=0) for values in means.values()]
    apart = min(np.abs(centre - other).max() for i, centre in enumerate(centres) for other in centres[:i])
    assert apart > 2 * within > 0


def test_parts_of_a_lot_share_its_tone() -> None:
    tones = np.array([render(0, "plate", number, 64).image.mean() for number in range(100)]).reshape(10, 10)
    assert tones.mean(axis=1).std() > 1.5 * tones.std(axis=1).mean()


def test_textures_differ() -> None:
    source = np.random.default_rng(0)
    brushed, woven, cast = (texture(source, 64, 0.05) for texture in drawing.TEXTURES)
    assert np.abs(np.diff(brushed, axis=1)).mean() < 0.3 * np.abs(np.diff(brushed, axis=0)).mean()  # grooves lie across
    for field in (woven, cast):
        assert 0.5 < np.abs(np.diff(field, axis=1)).mean() / np.abs(np.diff(field, axis=0)).mean() < 2
