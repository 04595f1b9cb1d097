"""The inbox: which files are new, which are known already, and which stay."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from pipeline.project import paths
from pipeline.retrain.inbox import (
    InboxFile,
    InboxScan,
    may_hold_images,
    move_out,
    pool_path,
    scan_inbox,
    unsupported_files,
)
from stages.download.config import DataConfig
from tests.pipeline.retrain.toy import picture

CONFIG = DataConfig(source="folder", categories=("tile",))


def no_wait() -> None:
    pass


def scan(folder: Path, known: dict[str, str] | None = None, config: DataConfig = CONFIG) -> InboxScan:
    return scan_inbox(folder, config, known or {}, no_wait)


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_kinds_follow_the_globs_of_the_data_source(tmp_path: Path) -> None:
    for name in ("normal/a.png", "defect/spot/b.png", "masks/spot/b.png", "tile/normal/deep/c.png"):
        picture(tmp_path / name, 100, len(name))
    found = scan(tmp_path)
    assert {file.path: file.kind for file in found.new} == {
        "normal/a.png": "normal",
        "defect/spot/b.png": "defect",
        "masks/spot/b.png": "mask",
        "tile/normal/deep/c.png": "normal",
    }
    assert {file.category for file in found.new} == {"tile"}
    assert not found.skipped_files and not found.known


def test_with_several_categories_each_needs_its_folder(tmp_path: Path) -> None:
    picture(tmp_path / "normal/a.png", 100, 1)
    picture(tmp_path / "nut/normal/a.png", 100, 2)
    found = scan(tmp_path, config=DataConfig(source="folder", categories=("nut", "bolt")))
    assert [(file.path, file.category) for file in found.new] == [("nut/normal/a.png", "nut")]
    assert "data.normal = 'normal/**'" in found.skipped_files["normal/a.png"]


def test_known_images_are_found_by_their_content(tmp_path: Path) -> None:
    here = picture(tmp_path / "normal/other name.png", 100, 1)
    found = scan(tmp_path, {sha(here): "normal"})
    assert [file.path for file in found.known] == ["normal/other name.png"]
    assert not found.new


def test_the_same_file_twice_is_taken_in_once(tmp_path: Path) -> None:
    picture(tmp_path / "normal/a.png", 100, 1)
    picture(tmp_path / "normal/b.png", 100, 1)
    found = scan(tmp_path)
    assert [file.path for file in found.new] == ["normal/a.png"]
    assert [file.path for file in found.known] == ["normal/b.png"]


def test_an_image_known_as_good_and_now_given_as_defective_stays(tmp_path: Path) -> None:
    here = picture(tmp_path / "defect/spot/a.png", 100, 1)
    found = scan(tmp_path, {sha(here): "normal"})
    assert found.skipped_files == {"defect/spot/a.png": "the same image is known as normal"}
    assert not found.new and not found.known


def test_equal_masks_of_two_images_are_both_taken(tmp_path: Path) -> None:
    for name in ("a", "b"):
        picture(tmp_path / f"defect/spot/{name}.png", 100, ord(name))
        picture(tmp_path / f"masks/spot/{name}.png", 0, 5)
    assert len(scan(tmp_path).new) == 4


def test_broken_and_small_files_stay_with_the_reason(tmp_path: Path) -> None:
    whole = picture(tmp_path / "normal/whole.png", 100, 1).read_bytes()
    (tmp_path / "normal/cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "normal/empty.png").write_bytes(b"")
    (tmp_path / "normal/text.png").write_text("no image")
    found = scan(tmp_path)
    assert [file.path for file in found.new] == ["normal/whole.png"]
    assert set(found.skipped_files) == {"normal/cut.png", "normal/empty.png", "normal/text.png"}
    assert "truncated" in found.skipped_files["normal/cut.png"]
    assert (
        scan(tmp_path, config=CONFIG.model_copy(update={"min_side": 17}))
        .skipped_files["normal/whole.png"]
        .startswith("16x16")
    )


def test_a_file_that_grows_between_two_looks_stays_whatever_its_time_says(tmp_path: Path) -> None:
    path = picture(tmp_path / "normal/a.png", 100, 1)
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    old = path.stat()

    def writer() -> None:  # like a copy that sets the time of the original at the end
        path.write_bytes(whole)
        os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))

    assert scan_inbox(tmp_path, CONFIG, {}, writer).skipped_files == {"normal/a.png": "it is still being written"}
    assert len(scan(tmp_path).new) == 1


def test_a_file_that_arrives_during_the_scan_stays(tmp_path: Path) -> None:
    picture(tmp_path / "normal/a.png", 100, 1)
    found = scan_inbox(tmp_path, CONFIG, {}, lambda: str(picture(tmp_path / "normal/b.png", 100, 2)) and None)
    assert [file.path for file in found.new] == ["normal/a.png"]
    assert found.skipped_files == {"normal/b.png": "it is still being written"}


def test_a_time_in_the_future_or_the_far_past_changes_nothing(tmp_path: Path) -> None:
    for name, time in (("future", 4_000_000_000), ("past", 0)):
        os.utime(picture(tmp_path / f"normal/{name}.png", 100, time % 1000 + len(name)), (time, time))
    assert len(scan(tmp_path).new) == 2


@pytest.mark.parametrize("name", ["a.png.part", ".hidden.png", "notes.txt", "a.tmp"])
def test_unfinished_hidden_and_other_files_are_ignored(tmp_path: Path, name: str) -> None:
    (tmp_path / "normal").mkdir()
    (tmp_path / "normal" / name).write_bytes(b"x")
    assert not may_hold_images(tmp_path)
    assert scan(tmp_path) == InboxScan()


def test_files_that_are_not_images_are_named(tmp_path: Path) -> None:
    for name in ("normal/a.png", "normal/notes.txt", "b.zip", "normal/c.png.part", ".hidden/d.txt", "normal/.e"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert unsupported_files(tmp_path) == ["b.zip", "normal/notes.txt"]
    assert unsupported_files(tmp_path / "nowhere") == []


def test_no_inbox_is_an_empty_one(tmp_path: Path) -> None:
    assert scan(tmp_path / "nowhere") == InboxScan()


def test_a_new_image_never_overwrites_one_of_the_same_name(tmp_path: Path) -> None:
    file = InboxFile("normal/a.png", "0123456789abcdef", "normal", "tile")
    assert pool_path(file, tmp_path).as_posix() == "normal/a.png"
    picture(tmp_path / "normal/a.png", 100, 1)
    assert pool_path(file, tmp_path).as_posix() == "normal/a-01234567.png"


def test_files_are_moved_out_once_and_a_newer_file_of_the_same_name_stays(tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    (inbox / "normal").mkdir(parents=True)
    files = {}
    for name in ("normal/a.png", "normal/b.png"):
        (inbox / name).write_text(name)
        files[name] = hashlib.sha256(name.encode()).hexdigest()
    (inbox / "normal/b.png").write_text("written again since")
    for _ in range(2):
        move_out(tmp_path, "taken", "run", inbox, files)
    assert [path.name for path in inbox.rglob("*.png")] == ["b.png"]
    assert (tmp_path / paths.RETRAIN / "taken/run/normal/a.png").read_text() == "normal/a.png"
