"""Archives: nothing outside the target, no links, no archive bombs; the target is complete or absent."""

from __future__ import annotations

import hashlib
import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.download import extract as module
from stages.download.extract import extract
from stages.types import UserError
from tests.stages.download.packed import MIB, TREE, contents, encrypted, tarred, zip_of_mode, zipped


def unpack(folder: Path, data: bytes, max_bytes: int = MIB) -> tuple[int, int]:
    (folder / "archive").write_bytes(data)
    return extract(folder / "archive", folder / "out" / "target", max_bytes, lambda done: None)


def refused(folder: Path, data: bytes, message: str, max_bytes: int = MIB) -> None:
    """The error has one line, and no file remains in the target or beside it."""
    with pytest.raises(UserError, match=message) as caught:
        unpack(folder, data, max_bytes)
    assert "\n" not in str(caught.value)
    assert contents(folder) == {"archive": data}
    assert list((folder / "out").iterdir()) == []


@pytest.mark.parametrize("data", [zipped(), *(tarred(kind=kind) for kind in ("", "gz", "bz2", "xz"))])
def test_good_archives(tmp_path: Path, data: bytes) -> None:
    assert unpack(tmp_path, data) == (3, 7000)
    assert contents(tmp_path / "out" / "target") == TREE


OUT = ["../x.png", "/x.png", "a/../../x.png", "..", "a\\..\\..\\x.png", "\\x.png", "C:/x.png", "C:x.png"]


@pytest.mark.parametrize("name", OUT)
@pytest.mark.parametrize("pack", [zipped, tarred])
def test_names_that_lead_out(tmp_path: Path, name: str, pack: Callable[..., bytes]) -> None:
    refused(tmp_path, pack({"good.png": b"1", name: b"2"}), "leads out of its folder")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (zip_of_mode(stat.S_IFLNK | 0o777), "is a link"),
        (zip_of_mode(stat.S_IFCHR | 0o777), "is a device"),
        (tarred({"x": b""}, type=tarfile.SYMTYPE, linkname="/etc"), "'x' of the archive is a link"),
        (tarred({"x": b""}, type=tarfile.LNKTYPE, linkname="/etc/passwd"), "is a link"),
        (tarred({"x": b""}, type=tarfile.CHRTYPE), "is a device"),
        (tarred({"x": b""}, type=tarfile.FIFOTYPE), "is a device"),
        (encrypted(), "is encrypted"),
        (zipped({"a/X.png": b"1", "a/x.png": b"2"}), r"'a/x\.png' and 'a/X\.png', which differ in letter case alone"),
        (tarred({"\u00e9.png": b"1", "e\u0301.png": b"2"}), "differ in letter case"),
        (tarred({"./x.png": b"1", "x.png": b"2"}), "twice"),
        (b"", "not an archive .* but empty"),
        (b"<!DOCTYPE html><html>sign in</html>", "but a web page"),
        (b"hello" * 200, "of another kind"),
        (b"\x1f\x8b" + b"\0" * 50, "truncated or damaged"),
        (zipped()[:-30], "truncated or damaged"),
        (zipped()[:60], "truncated or damaged"),
        (tarred()[:4000], "truncated or damaged"),
        (tarred()[:2560], r"no end mark at byte 2,560"),
        (tarred(kind="gz")[:-4], "truncated or damaged"),
        (tarred(kind="gz")[:-8] + b"\1\2\3\4\5\6\7\7", "truncated or damaged"),
        (tarred(kind="xz")[:-4], "truncated or damaged"),
    ],
)
def test_faults(tmp_path: Path, data: bytes, message: str) -> None:
    refused(tmp_path, data, message)


def test_a_cut_between_two_members_is_found() -> None:
    assert tarred()[2560 + 257 :][:5] == b"ustar"  # what the case of 2,560 bytes above rests on


class Zeros(io.RawIOBase):
    """A file of zeros."""

    def readinto(self, buffer: bytearray) -> int:
        buffer[:] = bytes(len(buffer))
        return len(buffer)


def bomb(kind: str, size: int) -> bytes:
    """An archive of one file of zeros."""
    file = io.BytesIO()
    if kind == "zip":
        with (
            zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
            archive.open("zeros.png", "w", force_zip64=True) as member,
        ):
            for _ in range(size // MIB):
                member.write(bytes(MIB))
    else:
        with tarfile.open(fileobj=file, mode="w:gz", compresslevel=1) as archive:
            member = tarfile.TarInfo("zeros.png")
            member.size = size
            archive.addfile(member, Zeros())
    return file.getvalue()


def forged(data: bytes, size: int, claimed: int) -> bytes:
    """The zip with another uncompressed size in its directories."""
    return data.replace(size.to_bytes(4, "little"), claimed.to_bytes(4, "little"))


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_bombs(tmp_path: Path, kind: str) -> None:
    data = bomb(kind, 128 * MIB)
    assert len(data) < MIB
    refused(tmp_path, data, r"134,217,728 bytes or more, above 10,485,760 \(data.archive.max_gb", 10 * MIB)
    refused(tmp_path, data, r"above 11\d,\d+,\d+ \(200 times its own size\)|above 104,857,600 \(200 times", 10**12)


def test_a_bomb_of_ten_gigabytes(tmp_path: Path) -> None:
    """A sparse tar declares its size; a zip of it is refused because of the size that it declares."""
    declared = tarfile.TarInfo("zeros.png")
    declared.size = 10 * 2**30
    refused(tmp_path, declared.tobuf() + bytes(10_240), r"10,737,418,240 bytes or more, above 1,048,576")
    refused(tmp_path, forged(zipped({"zeros.png": bytes(77_777)}), 77_777, 2**32 - 2), r"4,294,967,294 bytes or more")


def test_a_zip_that_declares_too_much_is_not_begun(tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(zipped({"small.png": b"1", "zeros.png": bytes(2 * MIB)}))
    begun: list[int] = []
    with pytest.raises(UserError, match="bytes or more"):
        extract(tmp_path / "archive", tmp_path / "target", MIB, begun.append)
    assert begun == []


def test_a_bomb_that_lies(tmp_path: Path) -> None:
    """No more bytes than declared are ever written."""
    data = forged(zipped({"zeros.png": bytes(77_777)}), 77_777, 10)
    refused(tmp_path, data, "truncated or damaged")


def test_zeros_behind_the_end_of_a_tar_count(tmp_path: Path) -> None:
    import gzip

    refused(
        tmp_path, gzip.compress(tarred(dict.fromkeys("a", b"1")) + bytes(3 * MIB), 1), "bytes or more, above 1,048,576"
    )


def test_too_many_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_MEMBERS", 2)
    refused(tmp_path, tarred(), "more than 2 files and folders")


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.sampled_from(["zip", "", "gz"]),
    st.lists(st.tuples(st.integers(0, 9999), st.integers(0, 255)), max_size=4),
    st.integers(0, 9999),
)
def test_whatever_is_damaged(tmp_path: Path, kind: str, changes: list[tuple[int, int]], cut: int) -> None:
    """Either complete and correct, or one line and no files: in a zip and a gz each byte is checked."""
    data = bytearray(zipped() if kind == "zip" else tarred(kind=kind))
    for at, value in changes:
        data[at % len(data)] = value
    del data[len(data) - (cut % len(data) if cut % 3 == 0 else 0) :]
    folder = tmp_path / hashlib.sha256(bytes(data) + kind.encode()).hexdigest()
    folder.mkdir(exist_ok=True)
    try:
        unpack(folder, bytes(data))
    except UserError:
        assert set(contents(folder)) == {"archive"}
    else:
        assert {name.partition("/")[0] for name in contents(folder)} == {"archive", "out"}
        if kind == "gz":
            assert contents(folder / "out" / "target") == TREE
        if kind == "zip":  # names are not checked by zip, contents are
            assert sorted(contents(folder / "out" / "target").values()) == sorted(TREE.values())
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()
