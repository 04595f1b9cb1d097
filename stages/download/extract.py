"""Unpacks archives safely: nothing outside the target, no links, no archive bombs; the target is complete or absent."""

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
MAX_RATIO, RATIO_APPLIES_ABOVE = 200, 100 * 2**20
"""An archive may hold MAX_RATIO times its own size, and any archive RATIO_APPLIES_ABOVE bytes: images do not shrink
more."""
CHUNK_BYTES = 1 << 20
DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, EOFError, UnicodeError)
Progress = Callable[[int], None]
"""Called with the bytes extracted so far."""


@dataclass
class _Extraction:
    """What has been written so far, and the limits."""

    root: Path
    max_bytes: int
    reason: str
    """What sets the limit `max_bytes`, for messages."""
    members: int = 0
    files: int = 0
    bytes: int = 0
    names: dict[str, str] = field(default_factory=dict)
    """Names as they are written, by `same_file` of the name."""


def extract(archive: Path, target: Path, max_bytes: int, progress: Progress) -> tuple[int, int]:
    """Unpack a zip or tar file (plain, gz, bz2, xz) to the new folder `target`.

    Files get this process's default permissions; times and owners are not kept.

    Returns:
        Numbers of files and bytes.

    Raises:
        UserError: the file is not an archive, damaged or encrypted; a member has an absolute path, leads outside the
            target, is a link or a device, or differs from another only in letter case; more than `max_bytes`, MAX_RATIO
            or MAX_MEMBERS.
    """
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    bound = max(RATIO_APPLIES_ABOVE, MAX_RATIO * archive.stat().st_size)
    reason = f"data.archive.max_gb = {max_bytes / 2**30:g}" if max_bytes <= bound else f"{MAX_RATIO} times its own size"
    extraction = _Extraction(part, min(max_bytes, bound), reason)
    try:
        for name, size, content in _members(archive):
            _write(extraction, name, size, content, progress)
        part.rename(target)
    except DAMAGED as fault:
        raise UserError(f"the archive is truncated or damaged ({' '.join(str(fault).split())[:120]})") from fault
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return extraction.files, extraction.bytes


Member = tuple[str, int, IO[bytes] | None]
"""Name, declared bytes, and content; the content is None for a folder."""


def _members(archive: Path) -> Iterator[Member]:
    with archive.open("rb") as file:
        start = file.read(512)
    if start[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return _zip_members(archive)
    if start[:2] == b"\x1f\x8b" or start[:3] == b"BZh" or start[:6] == b"\xfd7zXZ\x00" or start[257:262] == b"ustar":
        return _tar_members(archive)
    kind = "a web page" if start.lstrip()[:1] == b"<" else "empty" if not start else "of another kind"
    raise UserError(f"the file is not an archive (zip, tar, tar.gz, tar.bz2 or tar.xz) but {kind}")


def _zip_members(path: Path) -> Iterator[Member]:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        total = sum(member.file_size for member in members)
        yield "", total, None  # the total declared size is checked before anything is written
        for member in members:
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise UserError(
                    f"member {member.filename!r} of the archive is a {_kind_of_member(kind)}; only files are unpacked"
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
                    f"member {member.filename!r} of the archive: {fault}; pack the archive again as plain zip"
                ) from fault


def _tar_members(path: Path) -> Iterator[Member]:
    with tarfile.open(path) as archive:
        for member in archive:
            archive.members = []  # type: ignore[attr-defined]  # tarfile would keep all of them in memory
            if not member.isreg() and not member.isdir():
                kind = "link" if member.issym() or member.islnk() else "device"
                raise UserError(f"member {member.name!r} of the archive is a {kind}; only files are unpacked")
            yield member.name, member.size, archive.extractfile(member) if member.isreg() else None
        yield from _check_end(archive)


def _check_end(archive: tarfile.TarFile) -> Iterator[Member]:
    """Check that the archive ends with a block of zeros, and read to the end of the file.

    tarfile takes a cut between members, or a damaged header, for the end of the archive. What follows is read because
    the checksums of gz, bz2 and xz come last.
    """
    file = archive.fileobj
    assert file is not None
    file.seek(archive.offset)
    if file.read(512) != bytes(512):
        raise tarfile.ReadError(f"no end mark at byte {archive.offset:,}")
    read = 0
    while piece := file.read(CHUNK_BYTES):
        read += len(piece)
        yield "", read, None


def _kind_of_member(mode: int) -> str:
    return "link" if mode == stat.S_IFLNK else "device"


def _write(extraction: _Extraction, name: str, size: int, content: IO[bytes] | None, progress: Progress) -> None:
    extraction.members += 1
    if extraction.members > MAX_MEMBERS:
        raise UserError(f"the archive holds more than {MAX_MEMBERS:,} files and folders")
    _check_bytes(extraction, extraction.bytes + size)
    parts = _safe_parts(name)
    if content is None:
        extraction.root.joinpath(*parts).mkdir(parents=True, exist_ok=True)
        return
    _check_name(extraction, "/".join(parts), name)
    path = extraction.root.joinpath(*parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with path.open("xb") as file:
        while piece := content.read(CHUNK_BYTES):
            written += len(piece)
            _check_bytes(extraction, extraction.bytes + written)
            file.write(piece)
    if written != size:
        raise tarfile.ReadError(f"member {name!r} has {written:,} of {size:,} bytes")
    extraction.files, extraction.bytes = extraction.files + 1, extraction.bytes + written
    progress(extraction.bytes)


def _check_bytes(extraction: _Extraction, count: int) -> None:
    if count > extraction.max_bytes:
        raise UserError(
            f"the archive holds {count:,} bytes or more, above {extraction.max_bytes:,} ({extraction.reason})"
        )


def _safe_parts(name: str) -> tuple[str, ...]:
    """Parts of a member's name below the target. A backslash separates parts too, since some programs on Windows write
    it."""
    plain = name.replace("\\", "/")
    parts = tuple(part for part in PurePosixPath(plain).parts if part != ".")
    if plain.startswith("/") or ".." in parts or "\0" in plain or (parts and parts[0][1:2] == ":"):
        raise UserError(f"member {name!r} of the archive leads out of its folder; nothing of it is kept")
    return parts


def _check_name(extraction: _Extraction, name: str, original: str) -> None:
    if not name:
        raise UserError(f"member {original!r} of the archive has no name")
    other, extraction.names[same_file(name)] = extraction.names.get(same_file(name)), name
    if other is not None:
        how = "twice" if other == name else f"and {other!r}, which differ in letter case alone"
        raise UserError(f"the archive holds {name!r} {how}; rename one and pack it anew")
