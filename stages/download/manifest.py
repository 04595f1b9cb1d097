"""From source images to a data set: each image is checked, hashed, copied and split; unusable files are listed."""

from __future__ import annotations

import hashlib
import json
import logging
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
from stages.download.found import Rejected, SourceImage
from stages.download.index import StatIndex
from stages.download.sources.registry import SOURCES
from stages.download.split import Split, official_split_of, split_of
from stages.download.take import CachedFacts, ImageImporter, ImportResult
from stages.types import UserError

A = TypeVar("A")
B = TypeVar("B")
LOGGER = logging.getLogger(__name__)
MIN_TRAIN, MIN_VALIDATION = 2, 1
QUEUED_PER_THREAD = 8
"""Images that are begun at once for each thread; the results of more would only wait."""


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One row of the manifest."""

    path: str
    """Relative to the data set's folder."""
    sha256: str
    width: int
    height: int
    """Width and height in pixels of the upright image."""
    category: str
    split: Split
    label: int
    """0 good, 1 defect."""
    defect_type: str
    mask_path: str
    """Relative to the data set's folder; empty without a mask, or with a mask that marks no pixel."""
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
    """Copy the usable images of the configured source below `destination`.

    Identical images of a category may be in several splits: the audit finds them. A mask that marks no pixel does not
    say where a defect is, so its image counts as an image without a mask, and `say` gets a line about it.

    Args:
        progress: called with the images done and their number.
        root: folder of the images (`archive.locate`); None: `config.folder`.
        index: facts about files from earlier runs; neither it nor `threads` changes a result.
        say: called with a line for the user.

    Returns:
        Manifest rows, sorted by category and path; rejected files.

    Raises:
        UserError: no images, too large a share rejected, or too few good images to split.
    """
    sources, rejected = _list_images(config, Path(config.folder) if root is None else root)
    validated = {source.category for source in sources if source.split == "validation" and source.is_good}
    records: list[ImageRecord] = []
    unmarked: list[SourceImage] = []
    count = len(sources) + len(rejected)
    facts = StatIndex(None) if index is None else index
    for source, result in zip(sources, _import_images(config, sources, destination, facts, threads), strict=True):
        if result.reason:
            rejected.append(Rejected(str(source.file), source.category, result.reason))
        else:
            records.append(_record(config, source, result, source.category in validated))
            if result.unmarked:
                unmarked.append(source)
        progress(len(records) + len(rejected), count)
    _say_unmarked(unmarked, say)
    rejected.sort(key=lambda file: (file.category, file.path))
    _check_rejected(rejected, count, config)
    _check_split(records, config)
    return records, rejected


def _list_images(config: DataConfig, root: Path) -> tuple[list[SourceImage], list[Rejected]]:
    """The source's images, sorted by category and name, and the files that it rejects."""
    sources: list[SourceImage] = []
    rejected: list[Rejected] = []
    for file in SOURCES[config.source](config, root):
        (sources if isinstance(file, SourceImage) else rejected).append(file)  # type: ignore[arg-type]
    sources.sort(key=lambda source: (source.category, source.name))
    return sources, rejected


def _import_images(
    config: DataConfig, sources: Sequence[SourceImage], destination: Path, index: StatIndex, threads: int
) -> Iterator[ImportResult]:
    """The result for each image, in order; the index remembers new facts."""
    importer = _importer(config, destination)

    def work(job: tuple[SourceImage, CachedFacts, CachedFacts]) -> ImportResult:
        return importer.import_image(*job)

    jobs = ((source, *importer.look_up(source, index)) for source in sources)
    for result in _in_order(work, jobs, threads):
        for entry in result.entries:
            index.put(*entry)
        yield result


def _in_order(work: Callable[[A], B], jobs: Iterable[A], threads: int) -> Iterator[B]:
    """Results in the order of the jobs; at most QUEUED_PER_THREAD jobs per thread are begun and not yet asked for."""
    if threads == 1:
        yield from map(work, jobs)
        return
    with ThreadPoolExecutor(threads, "manifest") as pool:
        waiting: deque[Future[B]] = deque()
        try:
            for job in jobs:
                waiting.append(pool.submit(work, job))
                if len(waiting) > QUEUED_PER_THREAD * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _importer(config: DataConfig, destination: Path) -> ImageImporter:
    code = code_version("stages.download.examine", "stages.images", "stages.download.phash")
    versions = [version(name) for name in ("pillow", "numpy", "scipy")]

    def key(*values: object) -> str:
        return hashlib.sha256(json.dumps([code, versions, *values]).encode()).hexdigest()[:16]

    image = key("image", config.min_side, config.max_pixels)
    return ImageImporter(
        destination,
        config.min_side,
        config.max_pixels,
        image,
        cache(lambda above: key("mask", above, config.max_pixels)),
    )


def _record(config: DataConfig, source: SourceImage, result: ImportResult, validated: bool) -> ImageRecord:
    if config.split == "official":
        split = official_split_of(config.fold, source.group, source.is_good, source.split, validated)
    else:
        split = split_of(config.fold, source.group, source.is_good)
    return ImageRecord(
        path=result.path,
        sha256=result.image.sha256,
        width=result.image.width,
        height=result.image.height,
        category=source.category,
        split=split,
        label=0 if source.is_good else 1,
        defect_type=source.defect_type,
        mask_path=result.mask_path,
        group=source.group,
        phash=result.image.phash,
    )


def _say_unmarked(unmarked: list[SourceImage], say: Callable[[str], None]) -> None:
    defects = [source for source in unmarked if not source.is_good]
    for category, count in Counter(source.category for source in defects).items():
        first = next(source.name for source in defects if source.category == category)
        LOGGER.warning(
            f"{count} masks of {category} mark no pixel, so their images count as without a mask (first: {first})"
        )


def _check_rejected(rejected: Sequence[Rejected], count: int, config: DataConfig) -> None:
    if count and len(rejected) / count > config.max_rejected_fraction:
        examples = "; ".join(f"{file.path}: {file.reason}" for file in rejected[:5])
        raise UserError(
            f"{len(rejected)} of {count} images cannot be used, more than data.max_rejected_fraction = "
            f"{config.max_rejected_fraction}; the first of them: {examples}"
        )


def _check_split(records: list[ImageRecord], config: DataConfig) -> None:
    for category in config.categories:
        good = [record for record in records if record.category == category and record.label == 0]
        if not good:
            raise UserError(f"data.categories: category {category!r} has no usable good image")
        counts = {split: sum(record.split == split for record in good) for split in ("train", "validation", "test")}
        if counts["train"] < MIN_TRAIN or counts["validation"] < MIN_VALIDATION:
            raise UserError(
                f"data: too few good images of {category!r} to split: {len(good)} images in "
                f"{len({record.group for record in good})} groups gave {counts['train']} training and "
                f"{counts['validation']} validation images, at least {MIN_TRAIN} and {MIN_VALIDATION} are needed; "
                "add images, or choose another data.fold"
            )
