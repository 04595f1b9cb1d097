"""Archives unpacked without harm: nothing outside the target, no links, no bombs, whole or not there."""

from __future__ import annotations

import gzip
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

from stages.download.found import same_file
from stages.types import UserError

MAX_MEMBERS = 2_000_000
MAX_RATIO, RATIO_FROM = 200, 100 * 2**20
"""Above the second, in bytes, an archive may hold no more than the first times its size: images do not shrink so."""
PIECE = 1 << 20
BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, EOFError, UnicodeError)
Progress = Callable[[int], None]
"""Told the extracted bytes so far."""


@dataclass
class Extracted:
    """What has been written so far, and how much may be."""

    root: Path
    max_bytes: int
    reason: str
    """Why not more."""
    members: int = 0
    files: int = 0
    bytes: int = 0
    names: dict[str, str] = field(default_factory=dict)
    """Names by what a file system that ignores letter case takes them for."""


def extract(archive: Path, target: Path, max_bytes: int, progress: Progress) -> tuple[int, int]:
    """Unpack a zip or tar (plain, gz, bz2, xz) to the new folder `target`; return the numbers of files and bytes.

    Files get this process's default permissions; times and owners are not kept.

    Raises:
        UserError: not an archive, broken, encrypted; a member that is absolute, leads out, is a link or a device, or
            differs from another in letter case alone; more than `max_bytes`, MAX_RATIO or MAX_MEMBERS.
    """
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    bound = max(RATIO_FROM, MAX_RATIO * archive.stat().st_size)
    why = f"data.archive.max_gb = {max_bytes / 2**30:g}" if max_bytes <= bound else f"{MAX_RATIO} times its own size"
    done = Extracted(part, min(max_bytes, bound), why)
    try:
        for name, size, content in _members(archive):
            _write(done, name, size, content, progress)
        part.rename(target)
    except BROKEN as fault:
        raise UserError(f"the archive is truncated or damaged ({' '.join(str(fault).split())[:120]})") from fault
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return done.files, done.bytes


Member = tuple[str, int, IO[bytes] | None]
"""Name, declared bytes, and content; no content for a folder."""


def _members(archive: Path) -> Iterator[Member]:
    with archive.open("rb") as file:
        start = file.read(512)
    if start[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return _zip_members(archive)
    if start[:2] == b"\x1f\x8b" or start[:3] == b"BZh" or start[:6] == b"\xfd7zXZ\x00" or start[257:262] == b"ustar":
        return _tar_members(archive)
    kind = "a web page" if start.lstrip()[:1] == b"<" else "empty" if not start else "of another kind"
    raise UserError(f"the file is not an archive (zip, tar, tar.gz, tar.bz2 or tar.xz), but {kind}")


def _zip_members(path: Path) -> Iterator[Member]:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        total = sum(member.file_size for member in members)
        yield "", total, None  # all that it declares, before anything is written
        for member in members:
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise UserError(
                    f"member {member.filename!r} of the archive is a {_kind(kind)}; only files are unpacked"
                )
            if member.flag_bits & 1:
                raise UserError(f"member {member.filename!r} of the archive is encrypted; unpack it into data.folder")
            if member.is_dir():
                yield member.filename, 0, None
                continue
            try:
                with archive.open(member) as content:
                    yield member.filename, member.file_size, content
            except NotImplementedError as fault:
                raise UserError(
                    f"member {member.filename!r} of the archive: {fault}; pack it anew as plain zip"
                ) from fault


def _tar_members(path: Path) -> Iterator[Member]:
    with tarfile.open(path) as archive:
        for member in archive:
            archive.members = []  # type: ignore[attr-defined]  # it would keep them all
            if not member.isreg() and not member.isdir():
                kind = "link" if member.issym() or member.islnk() else "device"
                raise UserError(f"member {member.name!r} of the archive is a {kind}; only files are unpacked")
            yield member.name, member.size, archive.extractfile(member) if member.isreg() else None
        yield from _end(archive)


def _end(archive: tarfile.TarFile) -> Iterator[Member]:
    """tarfile takes a cut between members, and a damaged header, for the end: look for the block of zeros there.

    What follows is read too, since the checksums of gz, bz2 and xz come last.
    """
    file = archive.fileobj
    assert file is not None
    file.seek(archive.offset)
    if file.read(512) != bytes(512):
        raise tarfile.ReadError(f"no end mark at byte {archive.offset:,}")
    read = 0
    while piece := file.read(PIECE):
        read += len(piece)
        yield "", read, None


def _kind(mode: int) -> str:
    return "link" if mode == stat.S_IFLNK else "device"


def _write(done: Extracted, name: str, size: int, content: IO[bytes] | None, progress: Progress) -> None:
    done.members += 1
    if done.members > MAX_MEMBERS:
        raise UserError(f"the archive holds more than {MAX_MEMBERS:,} files and folders")
    _check_bytes(done, done.bytes + size)
    inside = _inside(name)
    if content is None:
        done.root.joinpath(*inside).mkdir(parents=True, exist_ok=True)
        return
    _check_name(done, "/".join(inside), name)
    path = done.root.joinpath(*inside)
    path.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with path.open("xb") as file:
        while piece := content.read(PIECE):
            written += len(piece)
            _check_bytes(done, done.bytes + written)
            file.write(piece)
    if written != size:
        raise tarfile.ReadError(f"member {name!r} has {written:,} of {size:,} bytes")
    done.files, done.bytes = done.files + 1, done.bytes + written
    progress(done.bytes)


def _check_bytes(done: Extracted, count: int) -> None:
    if count > done.max_bytes:
        raise UserError(f"the archive holds {count:,} bytes or more, above {done.max_bytes:,} ({done.reason})")


def _inside(name: str) -> tuple[str, ...]:
    """Parts of a name below the target. A backslash parts them too: some programs of Windows write it so."""
    plain = name.replace("\\", "/")
    parts = tuple(part for part in PurePosixPath(plain).parts if part != ".")
    if plain.startswith("/") or ".." in parts or "\0" in plain or (parts and parts[0][1:2] == ":"):
        raise UserError(f"member {name!r} of the archive leads out of its folder; nothing of it is kept")
    return parts


def _check_name(done: Extracted, name: str, shown: str) -> None:
    if not name:
        raise UserError(f"member {shown!r} of the archive has no name")
    other, done.names[same_file(name)] = done.names.get(same_file(name)), name
    if other is not None:
        how = "twice" if other == name else f"and {other!r}, which differ in letter case alone"
        raise UserError(f"the archive holds {name!r} {how}; rename one and pack it anew")
