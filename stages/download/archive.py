"""Where the images of a data set lie: in the user's folder, or in an archive that is fetched and unpacked once."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from stages.download.config import ArchiveConfig, DataConfig
from stages.download.extract import extract
from stages.download.fetch import WAYS_OUT, check_digest, digest_of, fetch, shown
from stages.types import UserError

Progress = Callable[[str, int, int | None], None]
"""Told what is done (`fetch`, `unpack`), the bytes so far, and of how many where that is known."""


def locate(
    config: DataConfig,
    downloads: Path,
    progress: Progress = lambda what, done, total: None,
    say: Callable[[str], None] = lambda line: None,
) -> Path:
    """Root folder of the images: `data.folder`, or where `data.archive` was unpacked below `downloads`, now or before.
    For source `synthetic` where they may be drawn.

    An unpacked archive counts as whole when it has as many files and bytes as were written.

    Raises:
        UserError: as `fetch` and `extract`; a sha256 that differs; a local archive that is not there.
        ConnectionError: a fault of the network that may pass.
    """
    archive = config.archive
    if config.source == "synthetic":
        return downloads / "synthetic"
    if archive.url is None:
        return Path(config.folder)
    folder, local = _place(archive, archive.url, downloads)
    root, mark = folder / "extracted", folder / "extracted.json"
    if _whole(root, mark):
        return root
    shutil.rmtree(root, ignore_errors=True)
    mark.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    file = local if local is not None else _fetched(archive, archive.url, folder, progress)
    unpacked = folder / "unpacked"
    shutil.rmtree(unpacked, ignore_errors=True)
    try:
        if archive.sha256 is None:
            say(f"data.archive.sha256 is null, so the archive is not checked; this one has {digest_of(file)}")
        else:
            check_digest(file, archive.sha256)
        files, size = extract(file, unpacked, _max_bytes(archive), lambda done: progress("unpack", done, None))
    except UserError as fault:
        if local is None:
            file.unlink()
        gone = "" if local is not None else " (the download was removed)"
        raise UserError(f"data.archive.url: {shown(archive.url)}: {fault}{gone}") from fault
    mark.write_text(json.dumps({"files": files, "bytes": size}))
    unpacked.rename(root)
    if local is None:
        file.unlink()  # what it held is kept unpacked
    return root


def _max_bytes(archive: ArchiveConfig) -> int:
    return int(archive.max_gb * 2**30)


def _place(archive: ArchiveConfig, url: str, downloads: Path) -> tuple[Path, Path | None]:
    """The archive's folder below `downloads`, and the archive itself where it lies on this machine."""
    identity: list[object] = [url, archive.sha256]
    local = None
    if not re.match(r"https?://", url, re.IGNORECASE):
        local = Path(url)
        if "://" in url or not local.is_file():
            raise UserError(f"data.archive.url: {url} is neither http:// or https:// nor a file here; {WAYS_OUT}")
        status = local.stat()
        identity = [str(local.resolve()), archive.sha256, status.st_size, status.st_mtime_ns]
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
    return downloads / digest[:16], local


def _fetched(archive: ArchiveConfig, url: str, folder: Path, progress: Progress) -> Path:
    file = folder / "archive"
    if not file.exists():  # else a run was killed while it unpacked
        fetch(url, file, _max_bytes(archive), lambda done, total: progress("fetch", done, total))
    return file


def _whole(root: Path, mark: Path) -> bool:
    """Whether the folder holds what was unpacked there; a kill, a full disk or a deletion leaves less."""
    try:
        expected = json.loads(mark.read_text())
    except (FileNotFoundError, ValueError):
        return False
    sizes = [path.stat().st_size for path in root.rglob("*") if path.is_file()]
    return {"files": len(sizes), "bytes": sum(sizes)} == expected
