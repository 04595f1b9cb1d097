"""The index saves reading files, and changes no result: not by edits, kills or clones."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stages.download import examine, placing
from stages.download.found import Rejected, SourceImage
from stages.download.index import StatIndex
from stages.download.manifest import ImageRecord, collect
from stages.types import UserError
from tests.stages.download.made import CONFIG, broken, defect, files_of, mask, settle
from tests.stages.download.test_manifest import config, picture


def no_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("read")

    for name in ("load_upright", "perceptual_hash"):
        monkeypatch.setattr(examine, name, refuse)
    monkeypatch.setattr("stages.download.take.read_unchanged", refuse)


@pytest.fixture
def settled_source(source_images: list, tmp_path: Path) -> Path:
    """All kinds of files, indexed by a first run."""
    source_images.append(defect(tmp_path, mask(tmp_path / "in" / "m.png", {0: 255})))
    for name, masks in (("two", [{1: 255}, {2: 255}]), ("none", [{}])):
        files = tuple(mask(tmp_path / "in" / f"{name}{i}.bmp", values) for i, values in enumerate(masks))
        picture(tmp_path / "in" / f"{name}.png", 7)
        source_images.append(SourceImage(tmp_path / "in" / f"{name}.png", f"{name}.png", "part", "bad", "spot", files))
    source_images.append(SourceImage(broken(tmp_path / "in" / "broken.png"), "broken.png", "part", "x"))
    settle(tmp_path / "in")
    run(tmp_path, "first")
    return tmp_path / "in"


def run(folder: Path, name: str) -> tuple[list[ImageRecord], list[Rejected], dict[str, bytes]]:
    """A run with the index: rows, rejected files, and all bytes of the data set."""
    index = StatIndex(folder / "index.sqlite")
    records, rejected = collect(CONFIG, folder / name, index=index)
    index.close()
    return records, rejected, files_of(folder / name)


def test_a_second_run_reads_nothing(settled_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = collect(CONFIG, tmp_path / "plain")
    no_reading(monkeypatch)
    records, rejected, files = run(tmp_path, "second")
    assert (records, rejected) == plain
    assert files == files_of(tmp_path / "plain")
    (settled_source / "5.png").touch()
    with pytest.raises(AssertionError, match="read"):
        run(tmp_path, "third")


@pytest.mark.parametrize("name", ["5.png", "m.png", "two1.bmp", "broken.png"])
def test_a_changed_file_is_read_again(settled_source: Path, tmp_path: Path, name: str) -> None:
    shutil.copy(settled_source / "8.png", settled_source / name)
    plain = collect(CONFIG, tmp_path / "plain")
    records, rejected, files = run(tmp_path, "second")
    assert (records, rejected) == plain
    assert files == files_of(tmp_path / "plain") != files_of(tmp_path / "first")


def test_a_change_that_hides_its_time_is_seen(settled_source: Path, tmp_path: Path) -> None:
    """Same size, same time of change, same inode: the time of the entry's own change tells."""
    before = (settled_source / "5.png").stat()
    data = bytearray((settled_source / "5.png").read_bytes())
    data[-1] ^= 1
    (settled_source / "5.png").write_bytes(data)
    os.utime(settled_source / "5.png", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert run(tmp_path, "second")[2]["images/part/5.png"] == bytes(data)


@pytest.mark.parametrize("changes", [{"min_side": 25}, {"max_pixels": 500}])
def test_other_parameters_read_again(settled_source: Path, tmp_path: Path, changes: dict) -> None:
    index = StatIndex(tmp_path / "index.sqlite")
    with pytest.raises(UserError, match="no usable good image"):
        collect(CONFIG.model_copy(update=changes), tmp_path / "second", index=index)
    index.close()


def test_a_file_changed_a_moment_ago_is_not_remembered(source_images: list, tmp_path: Path) -> None:
    settle(tmp_path / "in")
    ahead = (tmp_path / "in" / "5.png").stat().st_mtime_ns + 10**18
    os.utime(tmp_path / "in" / "5.png", ns=(ahead, ahead))
    run(tmp_path, "first")
    index = StatIndex(tmp_path / "index.sqlite")
    collect(CONFIG, tmp_path / "second", index=index)
    assert (index.hits, index.misses) == (29, 1)
    index.close()


def test_a_file_that_changes_after_it_was_looked_up(
    settled_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copyfile

    def copy_late(source: Path, target: Path) -> None:
        if source.name == "5.png":
            picture(source, 77)
        if source.name == "6.png":
            broken(source)
        copy(source, target)

    monkeypatch.setattr(placing.shutil, "copyfile", copy_late)
    records, _, files = run(tmp_path, "second")
    row = next(record for record in records if record.path.endswith("/5.png"))
    assert row.sha256 == hashlib.sha256(files[row.path]).hexdigest()
    assert files[row.path] == (settled_source / "5.png").read_bytes()
    assert "images/part/6.png" not in files


def test_files_that_vanish_or_cannot_be_read(settled_source: Path, tmp_path: Path) -> None:
    (settled_source / "5.png").unlink()
    (settled_source / "6.png").unlink()
    (settled_source / "6.png").mkdir()
    _, rejected, _ = run(tmp_path, "second")
    reasons = {Path(file.path).name: file.reason for file in rejected}
    assert reasons["5.png"] == "it is not there (any more)"
    assert reasons["6.png"] == "it cannot be read (Is a directory)"


def test_clones_are_used_where_there_are_and_never_links(
    settled_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloned: list[int] = []

    def clone(target: int, request: int, source: int) -> None:
        assert request == placing.FICLONE
        os.sendfile(target, source, 0, 2**20)
        cloned.append(source)

    monkeypatch.setattr(fcntl, "ioctl", clone)
    records, _, files = run(tmp_path, "second")
    assert len(cloned) == 34  # 33 images and the mask that is copied as it is
    assert files == files_of(tmp_path / "first")
    for record in records:
        assert (tmp_path / "second" / record.path).stat().st_nlink == 1


KILLED = """
import os, signal, sys
from pathlib import Path
from stages.download import index
from stages.download.config import DataConfig
from stages.download.manifest import collect
index.COMMIT_EVERY = 4
config = DataConfig(source="folder", folder=sys.argv[1], categories=("part",))
def progress(done, count):
    if done == 20:
        os.kill(os.getpid(), signal.SIGKILL)
collect(config, Path(sys.argv[2]), progress, index=index.StatIndex(Path(sys.argv[3])), threads=2)
"""


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    for i in range(30):
        picture(tmp_path / "in" / "normal" / f"{i:02d}.png", i)
    settle(tmp_path)
    arguments = [str(tmp_path / name) for name in ("in", "killed", "index.sqlite")]
    command = [sys.executable, "-c", KILLED, *arguments]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(Path.cwd())}, check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    index = StatIndex(tmp_path / "index.sqlite")
    records, _ = collect(config(tmp_path / "in"), tmp_path / "out", index=index)
    index.close()
    assert (index.hits, index.misses) == (20, 10)
    assert (records, []) == collect(config(tmp_path / "in"), tmp_path / "plain")
