"""The data set: split by group, faults listed, nothing usable lost."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stages.download.config import DataConfig
from stages.download.manifest import collect
from stages.download.split import percentile_of, split_of
from stages.types import UserError


def picture(path: Path, seed: int, side: int = 24) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (side, side), np.uint8)).save(path)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    for i in range(30):
        picture(root / "normal" / f"part{i:03d}.png", i)
    for i in range(3):
        picture(root / "defect" / "scratch" / f"bad{i}.png", 100 + i)
    picture(root / "masks" / "scratch" / "bad1.png", 200)
    return root


def config(root: Path, **changes: object) -> DataConfig:
    return DataConfig.model_validate({"source": "folder", "folder": str(root), "categories": ["part"], **changes})


def test_split_matches_the_published_rule() -> None:
    assert percentile_of("0-1") == int(hashlib.sha256(b"0-1").hexdigest()[:8], 16) % 100
    for group in map(str, range(50)):
        value = percentile_of(f"2-{group}")
        expected = "test" if value >= 70 else "validation" if value >= 60 else "train"
        assert split_of(2, group, is_good=True) == expected
        assert split_of(2, group, is_good=False) == "test"


def test_elpv_mono_counts(tmp_path: Path) -> None:
    pytest.importorskip("elpv_dataset")
    records, rejected = collect(DataConfig(), tmp_path)
    assert rejected == []
    assert (sum(r.label == 0 for r in records), sum(r.label == 1 for r in records)) == (588, 313)
    for record in records:
        assert int(record.group) == int(re.sub(r"\D", "", record.path)) // 60
        assert hashlib.sha256((tmp_path / record.path).read_bytes()).hexdigest() == record.sha256
    assert all(record.split == "test" for record in records if record.label)
    assert not {r.group for r in records if r.split == "train"} & {
        r.group for r in records if r.split == "test" and not r.label
    }


def test_uncertain_cells_can_be_defects(tmp_path: Path) -> None:
    pytest.importorskip("elpv_dataset")
    records, _ = collect(DataConfig(uncertain="defect"), tmp_path)
    assert sum(record.label for record in records) > 313


def test_folder_with_types_and_masks(source: Path, tmp_path: Path) -> None:
    records, _ = collect(config(source), tmp_path / "out")
    bad = {record.path: record for record in records if record.label}
    assert set(bad) == {f"images/part/defect/scratch/bad{i}.png" for i in range(3)}
    masks = {record.path: record.mask_path for record in bad.values() if record.mask_path}
    assert list(masks) == ["images/part/defect/scratch/bad1.png"]
    assert (tmp_path / "out" / next(iter(masks.values()))).is_file()


def test_group_pattern_keeps_groups_whole(source: Path, tmp_path: Path) -> None:
    records, _ = collect(config(source, group_pattern=r"part(\d\d)\d", fold=1), tmp_path / "out")
    assert {record.group for record in records if not record.label} == {"00", "01", "02"}


@given(st.integers(0, 4), st.lists(st.text(min_size=1, max_size=5), min_size=1))
def test_a_group_is_in_one_split(fold: int, groups: list[str]) -> None:
    splits = {(group, split_of(fold, group, is_good=True)) for group in groups}
    assert len(splits) == len(set(groups))


def test_unusable_files_are_listed_with_reasons(source: Path, tmp_path: Path) -> None:
    (source / "normal" / "empty.png").write_bytes(b"")
    picture(source / "normal" / "tiny.png", 0, side=1)
    records, rejected = collect(config(source, max_rejected_fraction=0.5), tmp_path / "out")
    assert len(records) == 33
    reasons = {Path(file.path).name: file.reason for file in rejected}
    assert set(reasons) == {"empty.png", "tiny.png"}
    assert "0 bytes" in reasons["empty.png"]
    assert "1x1" in reasons["tiny.png"]


def test_too_many_rejected_stop_the_run(source: Path, tmp_path: Path) -> None:
    for i in range(3):
        (source / "normal" / f"empty{i}.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"3 of 36 .*max_rejected_fraction = 0.05.*empty0\.png"):
        collect(config(source), tmp_path / "out")


def test_a_mask_of_another_size_is_rejected(source: Path, tmp_path: Path) -> None:
    picture(source / "masks" / "scratch" / "bad1.png", 0, side=12)
    _, rejected = collect(config(source), tmp_path / "out")
    assert [file.reason for file in rejected] == ["its mask bad1.png is 12x12, the image 24x24"]


def test_too_few_normals(tmp_path: Path) -> None:
    picture(tmp_path / "in" / "normal" / "one.png", 0)
    with pytest.raises(UserError, match="too few good images of 'part' to split: 1 images"):
        collect(config(tmp_path / "in"), tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"folder": "no/such"}, "no/such is not a folder"),
        ({"categories": ["a", "b"]}, "no good images of category 'a'"),
        ({"source": "elpv", "categories": ["multi"]}, "elpv has no 'multi'; it has mono and poly"),
    ],
)
def test_missing_sources(source: Path, tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        collect(config(source, **changes), tmp_path / "out")


@pytest.mark.parametrize("changes", [{"categories": ["../up"]}, {"categories": ["a", "a"]}, {"group_pattern": "("}])
def test_bad_values_are_refused(source: Path, changes: dict) -> None:
    with pytest.raises(ValueError, match=r"category|twice|regular expression"):
        config(source, **changes)
