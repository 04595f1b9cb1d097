"""The inbox: what is taken in, what is there already, what has to wait."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from pipeline.retrain.inbox import Drop, Inbox, holds_files, look, others, place
from stages.download.config import DataConfig
from tests.pipeline.retrain.toy import picture

CONFIG = DataConfig(source="folder", categories=("tile",))


def nothing() -> None:
    pass


def see(folder: Path, known: dict[str, str] | None = None, config: DataConfig = CONFIG) -> Inbox:
    return look(folder, config, known or {}, nothing)


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_kinds_follow_the_globs_of_the_data_source(tmp_path: Path) -> None:
    for name in ("normal/a.png", "defect/spot/b.png", "masks/spot/b.png", "tile/normal/deep/c.png"):
        picture(tmp_path / name, 100, len(name))
    found = see(tmp_path)
    assert {drop.path: drop.kind for drop in found.new} == {
        "normal/a.png": "normal",
        "defect/spot/b.png": "defect",
        "masks/spot/b.png": "mask",
        "tile/normal/deep/c.png": "normal",
    }
    assert {drop.category for drop in found.new} == {"tile"}
    assert not found.left and not found.known


def test_with_several_categories_each_needs_its_folder(tmp_path: Path) -> None:
    picture(tmp_path / "normal/a.png", 100, 1)
    picture(tmp_path / "nut/normal/a.png", 100, 2)
    found = see(tmp_path, config=DataConfig(source="folder", categories=("nut", "bolt")))
    assert [(drop.path, drop.category) for drop in found.new] == [("nut/normal/a.png", "nut")]
    assert "data.normal = 'normal/**'" in found.left["normal/a.png"]


def test_what_is_there_already_is_known_by_its_bytes(tmp_path: Path) -> None:
    here = picture(tmp_path / "normal/other name.png", 100, 1)
    found = see(tmp_path, {sha(here): "normal"})
    assert [drop.path for drop in found.known] == ["normal/other name.png"]
    assert not found.new


def test_the_same_file_dropped_twice_is_taken_once(tmp_path: Path) -> None:
    picture(tmp_path / "normal/a.png", 100, 1)
    picture(tmp_path / "normal/b.png", 100, 1)
    found = see(tmp_path)
    assert [drop.path for drop in found.new] == ["normal/a.png"]
    assert [drop.path for drop in found.known] == ["normal/b.png"]


def test_an_image_that_is_good_there_and_defective_here_waits_for_somebody(tmp_path: Path) -> None:
    here = picture(tmp_path / "defect/spot/a.png", 100, 1)
    found = see(tmp_path, {sha(here): "normal"})
    assert found.left == {"defect/spot/a.png": "the same image is there as normal already"}
    assert not found.new and not found.known


def test_equal_masks_of_two_images_are_both_taken(tmp_path: Path) -> None:
    for name in ("a", "b"):
        picture(tmp_path / f"defect/spot/{name}.png", 100, ord(name))
        picture(tmp_path / f"masks/spot/{name}.png", 0, 5)
    assert len(see(tmp_path).new) == 4


def test_broken_and_small_files_stay_with_the_reason(tmp_path: Path) -> None:
    whole = picture(tmp_path / "normal/whole.png", 100, 1).read_bytes()
    (tmp_path / "normal/cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "normal/empty.png").write_bytes(b"")
    (tmp_path / "normal/text.png").write_text("no image")
    found = see(tmp_path)
    assert [drop.path for drop in found.new] == ["normal/whole.png"]
    assert set(found.left) == {"normal/cut.png", "normal/empty.png", "normal/text.png"}
    assert "truncated" in found.left["normal/cut.png"]
    assert see(tmp_path, config=CONFIG.model_copy(update={"min_side": 17})).left["normal/whole.png"].startswith("16x16")


def test_a_file_that_grows_between_two_looks_waits_whatever_its_time_says(tmp_path: Path) -> None:
    path = picture(tmp_path / "normal/a.png", 100, 1)
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    old = path.stat()

    def writer() -> None:  # what a copy does that sets the time of the original afterwards
        path.write_bytes(whole)
        os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))

    assert look(tmp_path, CONFIG, {}, writer).left == {"normal/a.png": "it is still being written"}
    assert len(see(tmp_path).new) == 1


def test_a_file_that_arrives_while_we_look_waits(tmp_path: Path) -> None:
    picture(tmp_path / "normal/a.png", 100, 1)
    found = look(tmp_path, CONFIG, {}, lambda: str(picture(tmp_path / "normal/b.png", 100, 2)) and None)
    assert [drop.path for drop in found.new] == ["normal/a.png"]
    assert found.left == {"normal/b.png": "it is still being written"}


def test_a_time_in_the_future_or_the_far_past_changes_nothing(tmp_path: Path) -> None:
    for name, time in (("future", 4_000_000_000), ("past", 0)):
        os.utime(picture(tmp_path / f"normal/{name}.png", 100, time % 1000 + len(name)), (time, time))
    assert len(see(tmp_path).new) == 2


@pytest.mark.parametrize("name", ["a.png.part", ".hidden.png", "notes.txt", "a.tmp"])
def test_unfinished_hidden_and_other_files_are_passed_over(tmp_path: Path, name: str) -> None:
    (tmp_path / "normal").mkdir()
    (tmp_path / "normal" / name).write_bytes(b"x")
    assert not holds_files(tmp_path)
    assert see(tmp_path) == Inbox()


def test_what_is_no_image_is_named(tmp_path: Path) -> None:
    for name in ("normal/a.png", "normal/notes.txt", "b.zip", "normal/c.png.part", ".hidden/d.txt", "normal/.e"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert others(tmp_path) == ["b.zip", "normal/notes.txt"]
    assert others(tmp_path / "nowhere") == []


def test_no_inbox_is_an_empty_one(tmp_path: Path) -> None:
    assert see(tmp_path / "nowhere") == Inbox()


def test_a_new_image_never_overwrites_one_of_the_same_name(tmp_path: Path) -> None:
    drop = Drop("normal/a.png", "0123456789abcdef", "normal", "tile")
    assert place(drop, tmp_path).as_posix() == "normal/a.png"
    picture(tmp_path / "normal/a.png", 100, 1)
    assert place(drop, tmp_path).as_posix() == "normal/a-01234567.png"
