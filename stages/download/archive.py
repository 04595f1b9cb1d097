"""Finds the folder of a data set's images: the user's folder, or an archive that is downloaded and unpacked once."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from stages.download.config import ArchiveConfig, DataConfig
from stages.download.extract import extract
from stages.download.fetch import ALTERNATIVES, check_digest, digest_of, fetch, redacted
from stages.types import UserError

Progress = Callable[[str, int, int | None], None]
"""Called with the action (`fetch` or `unpack`), the bytes so far, and the total bytes where they are known."""


def locate(
    config: DataConfig,
    downloads: Path,
    progress: Progress = lambda what, done, total: None,
    say: Callable[[str], None] = lambda line: None,
) -> Path:
    """Root folder of the images: `data.folder`, or the folder below `downloads` into which `data.archive` is or was
    unpacked. For source `synthetic`: the folder that images are rendered into.

    An unpacked archive counts as complete when it has as many files and bytes as were written.

    Raises:
        UserError: as `fetch` and `extract`; a wrong sha256; a local archive that does not exist.
        ConnectionError: a network error that may pass.
    """
    archive = config.archive
    if config.source == "synthetic":
        return downloads / "synthetic"
    if archive.url is None:
        return Path(config.folder)
    folder, local = _archive_folder(archive, archive.url, downloads)
    root, mark = folder / "extracted", folder / "extracted.json"
    if _is_complete(root, mark):
        return root
    shutil.rmtree(root, ignore_errors=True)
    mark.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    file = local if local is not None else _downloaded(archive, archive.url, folder, progress)
    unpacked = folder / "unpacked"
    shutil.rmtree(unpacked, ignore_errors=True)
    try:
        if archive.sha256 is None:
            say(f"data.archive.sha256 is null, so the archive is not checked; its sha256 is {digest_of(file)}")
        else:
            check_digest(file, archive.sha256)
        files, size = extract(file, unpacked, _max_bytes(archive), lambda done: progress("unpack", done, None))
    except UserError as fault:
        if local is None:
            file.unlink()
        removed = "" if local is not None else " (the download was removed)"
        raise UserError(f"data.archive.url: {redacted(archive.url)}: {fault}{removed}") from fault
    mark.write_text(json.dumps({"files": files, "bytes": size}))
    unpacked.rename(root)
    if local is None:
        file.unlink()  # its content is kept unpacked
    return root


def _max_bytes(archive: ArchiveConfig) -> int:
    return int(archive.max_gb * 2**30)


def _archive_folder(archive: ArchiveConfig, url: str, downloads: Path) -> tuple[Path, Path | None]:
    """The archive's folder below `downloads`, and the archive's path if it is on this machine."""
    identity: list[object] = [url, archive.sha256]
    local = None
    if not re.match(r"https?://", url, re.IGNORECASE):
        local = Path(url)
        if "://" in url or not local.is_file():
            raise UserError(f"data.archive.url: {url} is neither http:// or https:// nor a file here; {ALTERNATIVES}")
        status = local.stat()
        identity = [str(local.resolve()), archive.sha256, status.st_size, status.st_mtime_ns]
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
    return downloads / digest[:16], local


def _downloaded(archive: ArchiveConfig, url: str, folder: Path, progress: Progress) -> Path:
    file = folder / "archive"
    if not file.exists():  # it exists if a run was killed while unpacking
        fetch(url, file, _max_bytes(archive), lambda done, total: progress("fetch", done, total))
    return file


def _is_complete(root: Path, mark: Path) -> bool:
    """Whether the folder holds all that was unpacked there; a kill, a full disk or a deletion leaves less."""
    try:
        expected = json.loads(mark.read_text())
    except (FileNotFoundError, ValueError):
        return False
    sizes = [path.stat().st_size for path in root.rglob("*") if path.is_file()]
    return {"files": len(sizes), "bytes": sum(sizes)} == expected
