"""Locating the images: an archive is downloaded, checked and unpacked once; a partial one never counts as complete."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stages.download.archive import locate
from stages.download.config import DataConfig
from stages.types import UserError
from tests.stages.download.packed import TREE, contents, tarred, zipped
from tests.stages.download.server import serving


def config(url: Path | str | None, **changes: object) -> DataConfig:
    return DataConfig.model_validate({"source": "magnetic_tile", "archive": {"url": url and str(url), **changes}})


def test_without_an_archive(tmp_path: Path) -> None:
    assert locate(config(None), tmp_path) == Path("data/own")


def test_a_local_archive_is_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, said = tmp_path / "set.zip", list[str]()
    file.write_bytes(zipped())
    root = locate(config(file), tmp_path / "downloads", say=said.append)
    assert contents(root) == TREE
    assert hashlib.sha256(zipped()).hexdigest() in said[0]
    assert file.exists()
    with monkeypatch.context() as patch:
        patch.setattr("stages.download.archive.extract", None)
        assert locate(config(file), tmp_path / "downloads") == root
    next(path for path in root.rglob("a.png")).unlink()  # no longer whole
    assert contents(locate(config(file), tmp_path / "downloads")) == TREE
    file.write_bytes(zipped({"new.png": b"1"}))
    assert contents(locate(config(file), tmp_path / "downloads")) == {"new.png": b"1"}


def test_a_download_is_checked_unpacked_and_removed(tmp_path: Path) -> None:
    right, seen = hashlib.sha256(tarred(kind="xz")).hexdigest(), set[str]()
    with serving(tarred(kind="xz")) as served:
        root = locate(config(served.url, sha256=right), tmp_path, lambda what, done, total: seen.add(what))
        assert contents(root) == TREE
        assert locate(config(served.url, sha256=right), tmp_path) == root
        assert len(served.asked) == 1
        assert seen == {"fetch", "unpack"}
        assert sorted(path.name for path in root.parent.iterdir()) == ["extracted", "extracted.json"]


def test_a_wrong_digest(tmp_path: Path) -> None:
    file = tmp_path / "set.zip"
    file.write_bytes(zipped())
    actual = hashlib.sha256(zipped()).hexdigest()
    with serving(zipped()) as served:
        for url in (served.url, file):
            with pytest.raises(
                UserError, match=rf"set\.zip: its sha256 is {actual}, data\.archive\.sha256 is {'0' * 64}"
            ):
                locate(config(url, sha256="0" * 64), tmp_path / "downloads")
    assert set(contents(tmp_path)) == {"set.zip"}  # the user's own file stays, the download does not


@pytest.mark.parametrize("url", ["no/such.zip", "ftp://example.org/set.zip", "."])
def test_an_archive_that_is_not_there(tmp_path: Path, url: str) -> None:
    with pytest.raises(UserError, match="neither http:// or https:// nor a file here"):
        locate(config(url), tmp_path)


def test_a_broken_download_is_removed_and_one_that_broke_off_is_kept(tmp_path: Path) -> None:
    with serving(zipped()[:-30]) as served:
        with pytest.raises(UserError, match=r"truncated or damaged .*the download was removed"):
            locate(config(served.url), tmp_path)
        assert contents(tmp_path) == {}
        served.data, served.cut = zipped(), 1000
        with pytest.raises(ConnectionError):
            locate(config(served.url), tmp_path)
        served.cut = None
        assert contents(locate(config(served.url), tmp_path)) == TREE


KILLED = """
import os, signal, sys
from pathlib import Path
from stages.download.archive import locate
from stages.download.config import DataConfig
calls = 0
def trace(event, arguments):  # every change of the file system is a place to die at
    global calls
    if event in ("open", "os.rename", "os.mkdir", "os.remove") and sys.argv[2] in str(arguments[0]):
        calls += 1
        if calls == int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)
config = DataConfig.model_validate({"source": "magnetic_tile", "archive": {"url": sys.argv[1]}})
sys.addaudithook(trace)
locate(config, Path(sys.argv[2]))
"""


@pytest.mark.parametrize("at", [1, 4, 6, 8, 10, 12])
def test_killed_at_any_step(tmp_path: Path, at: int) -> None:
    file, downloads = tmp_path / "set.zip", tmp_path / "downloads"
    file.write_bytes(zipped())
    command = [sys.executable, "-c", KILLED, str(file), str(downloads), str(at)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(Path.cwd())}, check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    whole = list(downloads.glob("*/extracted"))
    assert all(contents(path) == TREE for path in whole)
    root = locate(config(file), downloads)
    assert contents(root) == TREE
    assert sorted(path.name for path in root.parent.iterdir()) == ["extracted", "extracted.json"]
