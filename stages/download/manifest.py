"""From found files to a data set: every image checked, hashed, copied, split; what cannot be used is listed."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

from stages.code_version import code_version
from stages.download.config import DataConfig
from stages.download.found import Found, Rejected
from stages.download.index import StatIndex
from stages.download.sources.registry import SOURCES
from stages.download.split import Split, official_split_of, split_of
from stages.download.take import Known, Taken, Taker
from stages.types import UserError

A = TypeVar("A")
B = TypeVar("B")
MIN_TRAIN, MIN_VALIDATION = 2, 1
AHEAD = 8
"""Images in the works for each thread; the results of more would only wait."""


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One row of the manifest."""

    path: str
    """Below the data set's folder."""
    sha256: str
    width: int
    height: int
    """Of the upright image, pixels."""
    category: str
    split: Split
    label: int
    """0 normal, 1 defect."""
    defect_type: str
    mask_path: str
    """Below the data set's folder; empty without a mask, or with one that marks nothing."""
    group: str
    phash: str
    """Perceptual hash, hex."""


def collect(
    config: DataConfig,
    destination: Path,
    progress: Callable[[int, int], None] = lambda done, count: None,
    *,
    root: Path | None = None,
    index: StatIndex | None = None,
    threads: int = 1,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[list[ImageRecord], list[Rejected]]:
    """Copy the usable images of the configured source below `destination`; manifest rows sorted by category and path.

    Identical images of a category may be in several splits: the audit finds them. A mask that marks nothing does not
    say where a defect is, so its image counts as one without a mask, and `say` is told.

    Args:
        root: where the images lie (`archive.locate`); None: in `config.folder`.
        index: what is known from before; neither it nor `threads` changes a result.

    Raises:
        UserError: nothing found, too large a share rejected, or too few normal images to split.
    """
    found, rejected = _find(config, Path(config.folder) if root is None else root)
    validated = {one.category for one in found if one.split == "validation" and one.normal}
    records: list[ImageRecord] = []
    unmarked: list[Found] = []
    count = len(found) + len(rejected)
    known = StatIndex(None) if index is None else index
    for one, taken in zip(found, _taken(config, found, destination, known, threads), strict=True):
        if taken.reason:
            rejected.append(Rejected(str(one.file), one.category, taken.reason))
        else:
            records.append(_record(config, one, taken, one.category in validated))
            if taken.unmarked:
                unmarked.append(one)
        progress(len(records) + len(rejected), count)
    _say_unmarked(unmarked, say)
    rejected.sort(key=lambda one: (one.category, one.path))
    _check_rejected(rejected, count, config)
    _check_split(records, config)
    return records, rejected


def _find(config: DataConfig, root: Path) -> tuple[list[Found], list[Rejected]]:
    """What the source says, sorted."""
    found: list[Found] = []
    rejected: list[Rejected] = []
    for one in SOURCES[config.source](config, root):
        (found if isinstance(one, Found) else rejected).append(one)  # type: ignore[arg-type]
    found.sort(key=lambda one: (one.category, one.name))
    return found, rejected


def _taken(
    config: DataConfig, found: Sequence[Found], destination: Path, index: StatIndex, threads: int
) -> Iterator[Taken]:
    """What became of each file, in order."""
    taker = _taker(config, destination)

    def work(job: tuple[Found, Known, Known]) -> Taken:
        return taker.take(*job)

    jobs = ((one, *taker.look_up(one, index)) for one in found)
    for taken in _in_order(work, jobs, threads):
        for fresh in taken.fresh:
            index.put(*fresh)
        yield taken


def _in_order(work: Callable[[A], B], jobs: Iterable[A], threads: int) -> Iterator[B]:
    """Results in the order of the jobs, of which at most AHEAD a thread are begun and not yet asked for."""
    if threads == 1:
        yield from map(work, jobs)
        return
    with ThreadPoolExecutor(threads, "manifest") as pool:
        waiting: deque[Future[B]] = deque()
        try:
            for job in jobs:
                waiting.append(pool.submit(work, job))
                if len(waiting) > AHEAD * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _taker(config: DataConfig, destination: Path) -> Taker:
    code = code_version("stages.download.examine", "stages.images", "stages.download.phash")
    versions = [version(name) for name in ("pillow", "numpy", "scipy")]

    def key(*values: object) -> str:
        return hashlib.sha256(json.dumps([code, versions, *values]).encode()).hexdigest()[:16]

    image = key("image", config.min_side, config.max_pixels)
    return Taker(
        destination,
        config.min_side,
        config.max_pixels,
        image,
        cache(lambda above: key("mask", above, config.max_pixels)),
    )


def _record(config: DataConfig, one: Found, taken: Taken, validated: bool) -> ImageRecord:
    if config.split == "official":
        split = official_split_of(config.fold, one.group, one.normal, one.split, validated)
    else:
        split = split_of(config.fold, one.group, one.normal)
    return ImageRecord(
        path=taken.path,
        sha256=taken.image.sha256,
        width=taken.image.width,
        height=taken.image.height,
        category=one.category,
        split=split,
        label=0 if one.normal else 1,
        defect_type=one.defect_type,
        mask_path=taken.mask_path,
        group=one.group,
        phash=taken.image.phash,
    )


def _say_unmarked(unmarked: list[Found], say: Callable[[str], None]) -> None:
    defects = [one for one in unmarked if not one.normal]
    for category, count in Counter(one.category for one in defects).items():
        first = next(one.name for one in defects if one.category == category)
        say(f"{count} masks of {category} mark no pixel and count as none (the first is that of {first})")


def _check_rejected(rejected: Iterable[Rejected], count: int, config: DataConfig) -> None:
    faults = list(rejected)
    if count and len(faults) / count > config.max_rejected_fraction:
        named = "; ".join(f"{fault.path}: {fault.reason}" for fault in faults[:5])
        raise UserError(
            f"{len(faults)} of {count} images cannot be used, more than data.max_rejected_fraction = "
            f"{config.max_rejected_fraction}; the first of them: {named}"
        )


def _check_split(records: list[ImageRecord], config: DataConfig) -> None:
    for category in config.categories:
        normals = [record for record in records if record.category == category and record.label == 0]
        if not normals:
            raise UserError(f"data.categories: category {category!r} has no usable normal image")
        counts = {split: sum(record.split == split for record in normals) for split in ("train", "validation", "test")}
        if counts["train"] < MIN_TRAIN or counts["validation"] < MIN_VALIDATION:
            raise UserError(
                f"data: too few normal images of {category!r} to split: {len(normals)} images in "
                f"{len({record.group for record in normals})} groups gave {counts['train']} train and "
                f"{counts['validation']} validation, at least {MIN_TRAIN} and {MIN_VALIDATION} are needed; "
                "add images, or choose another data.fold"
            )
