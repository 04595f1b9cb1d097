"""From source images to a data set: each image is checked, hashed, copied and split; unusable files are listed."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import TypeVar

from stages.code_version import code_version, imports_of
from stages.download.config import DataConfig
from stages.download.depth import choose_white, stretched
from stages.download.found import Rejected, SourceImage
from stages.download.index import StatIndex
from stages.download.phash import perceptual_hash
from stages.download.sources.registry import SOURCES
from stages.download.split import Split, official_split_of, split_of
from stages.download.take import CachedFacts, ImageImporter, ImportResult
from stages.download.unexpected import Imported, warn_of_files, warn_of_images
from stages.images import WHITE_16, load_upright, to_rgb
from stages.types import UserError

A = TypeVar("A")
B = TypeVar("B")
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
    source_sha256: str
    """Digest of the file of the source. It differs from `sha256`, that of the file in the data set, if the grey values
    were stretched."""
    white: int
    """Grey value of the source's files that counts as white, for files of more than 8 bits."""
    mode: str
    """Pixel format of the source's file, as `stages.images.mode_of` names it."""


def collect(
    config: DataConfig,
    destination: Path,
    progress: Callable[[int, int], None] = lambda done, count: None,
    *,
    root: Path | None = None,
    index: StatIndex | None = None,
    threads: int = 1,
) -> tuple[list[ImageRecord], list[Rejected]]:
    """Copy the usable images of the configured source below `destination`.

    Identical images of a category may be in several splits: the audit finds them. A mask that marks no pixel does not
    say where a defect is, so its image counts as an image without a mask. Grey values of more than 8 bits are stretched
    to the full range (`data.bits`). What a person would not expect is logged as a warning.

    Args:
        progress: called with the images done and their number.
        root: folder of the images (`archive.locate`); None: `config.folder`.
        index: facts about files from earlier runs; neither it nor `threads` changes a result.

    Returns:
        Manifest rows, sorted by category and path; rejected files.

    Raises:
        UserError: no images, too large a share rejected, or too few good images to split.
    """
    sources, rejected = _list_images(config, Path(config.folder) if root is None else root)
    validated = {source.category for source in sources if source.split == "validation" and source.is_good}
    imported: list[tuple[SourceImage, ImportResult]] = []
    count = len(sources) + len(rejected)
    facts = StatIndex(None) if index is None else index
    for source, result in zip(sources, _import_images(config, sources, destination, facts, threads), strict=True):
        if result.reason:
            rejected.append(Rejected(str(source.file), source.category, result.reason))
        else:
            imported.append((source, result))
        progress(len(imported) + len(rejected), count)
    splits = [_split(config, source, source.category in validated) for source, _ in imported]
    whites = _choose_whites(config, imported, splits)
    warn_of_files(Path(config.folder) if root is None else root, config)
    warn_of_images(imported, config, whites)
    jobs = zip(imported, splits, strict=True)
    records = list(_in_order(lambda job: _record(*job[0], job[1], whites, destination), jobs, threads))
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
    code = code_version(*imports_of("stages.download.examine"))
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


def _split(config: DataConfig, source: SourceImage, validated: bool) -> Split:
    if config.split == "official":
        return official_split_of(config.fold, source.group, source.is_good, source.split, validated)
    return split_of(config.fold, source.group, source.is_good)


def _choose_whites(config: DataConfig, imported: Imported, splits: Sequence[Split]) -> dict[str, int]:
    """Category -> grey value that counts as white in files of more than 8 bits."""
    whites = {}
    for category in config.categories:
        wide = [
            (split == "train" and source.is_good, result.image.largest)
            for (source, result), split in zip(imported, splits, strict=True)
            if source.category == category and result.image.wide
        ]
        learned = [largest for learns, largest in wide if learns]
        whites[category] = choose_white(config.bits, learned or [largest for _, largest in wide])
    return whites


def _record(
    source: SourceImage, result: ImportResult, split: Split, whites: Mapping[str, int], destination: Path
) -> ImageRecord:
    """The row of an image. If its depth is not that of its file, its file is stretched to the full range."""
    white, path, sha256, phash = whites[source.category], result.path, result.image.sha256, result.image.phash
    if result.image.wide and white != WHITE_16:
        image = load_upright((destination / path).read_bytes())
        data = stretched(image, white)
        (destination / path).unlink()
        path = path if PurePosixPath(path).suffix.lower() in (".tif", ".tiff") else f"{path}.tif"
        (destination / path).write_bytes(data)
        sha256, phash = hashlib.sha256(data).hexdigest(), perceptual_hash(to_rgb(image, white))
    return ImageRecord(
        path=path,
        sha256=sha256,
        width=result.image.width,
        height=result.image.height,
        category=source.category,
        split=split,
        label=0 if source.is_good else 1,
        defect_type=source.defect_type,
        mask_path=result.mask_path,
        group=source.group,
        phash=phash,
        source_sha256=result.image.sha256,
        white=white,
        mode=result.image.mode,
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
