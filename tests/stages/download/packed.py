"""Archives for tests."""

from __future__ import annotations

import io
import random
import tarfile
import zipfile
from pathlib import Path

TREE = {"set/normal/a.png": b"a" * 2000, "set/normal/ü b.png": b"", "set/masks/a.png": random.Random(0).randbytes(5000)}
MIB = 2**20


def zipped(tree: dict[str, bytes] = TREE, **options: object) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for name, data in tree.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, data)
    return file.getvalue()


def tarred(tree: dict[str, bytes] = TREE, kind: str = "", **changes: object) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=f"w:{kind}") as archive:
        for name, data in tree.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            for key, value in changes.items():
                setattr(member, key, value)
            archive.addfile(member, io.BytesIO(data))
    return file.getvalue()


def zip_of_mode(mode: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        info = zipfile.ZipInfo("set/x.png")
        info.external_attr = mode << 16
        archive.writestr(info, "/etc/passwd")
    return file.getvalue()


def encrypted() -> bytes:
    data = bytearray(zipped())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(mark)
        data[at + offset] |= 1
    return bytes(data)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
