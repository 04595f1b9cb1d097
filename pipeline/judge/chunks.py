"""Read images in chunks while the models work, and score them in batches as large as memory allows."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.compute.executors import cores
from pipeline.compute.prefetch import prefetch
from pipeline.judge.images import LoadedImage, load_image
from pipeline.project.faults import out_of_memory
from stages.download.config import DataConfig
from stages.images import WHITE_16
from stages.types import ScoreMap, UserError


class Predictor(Protocol):
    """See `pipeline.judge.models.Models`."""

    def predict(self, ids: Sequence[str], images: dict[int, NDArray[np.uint8]]) -> list[dict[str, ScoreMap]]: ...

    def limit_batch(self, images: int) -> None: ...


@dataclass
class BatchSize:
    """How many images the models score together."""

    size: int
    on_halved: Callable[[int], None]
    """Called with the new size."""

    def halve(self, memory: str) -> None:
        """
        Args:
            memory: what failed, for the message.

        Raises:
            UserError: the size is 1 already.
        """
        if self.size == 1:
            raise UserError(
                f"out of memory even with one image at a time ({memory}): free memory, or run fewer detectors with "
                "--detector"
            )
        self.size //= 2
        self.on_halved(self.size)


TOO_LARGE = "its pixels do not fit into memory"


def read_images(
    paths: Sequence[str], sides: Iterable[int], data: DataConfig, batch: BatchSize, white: int = WHITE_16
) -> Iterator[list[LoadedImage]]:
    """Load images in order, in chunks of the batch size. Threads read the next chunk while the current one is used.

    If memory does not suffice for a chunk, its images are loaded one after the other.

    Args:
        white: grey value that counts as white in files of more than 8 bits.
    """
    sides = tuple(sides)

    def load_alone(path: str) -> LoadedImage:
        try:
            return load_image(path, sides, data, white)
        except MemoryError:
            return LoadedImage(path, fault=TOO_LARGE)

    def chunks(pool: ThreadPoolExecutor) -> Iterator[list[LoadedImage]]:
        start = 0
        while start < len(paths):
            part = paths[start : start + batch.size]
            start += len(part)
            try:
                yield list(pool.map(lambda path: load_image(path, sides, data, white), part))
            except MemoryError:
                yield [load_alone(path) for path in part]

    with ThreadPoolExecutor(cores()) as pool:
        yield from prefetch(chunks(pool))


def predict_images(
    models: Predictor, chunks: Iterable[list[LoadedImage]], batch: BatchSize
) -> Iterator[tuple[LoadedImage, dict[str, ScoreMap] | None]]:
    """Each image with its score maps by detector; None for an unreadable image.

    Raises:
        UserError: memory does not suffice for a single image.
    """
    for chunk in chunks:
        maps = _predict_in_batches(models, [image for image in chunk if not image.fault], batch)
        for image in chunk:
            yield image, None if image.fault else next(maps)


def _predict_in_batches(
    models: Predictor, images: Sequence[LoadedImage], batch: BatchSize
) -> Iterator[dict[str, ScoreMap]]:
    done = 0
    while done < len(images):
        part, memory = images[done : done + batch.size], ""
        try:
            squares = {side: np.stack([image.squares[side] for image in part]) for side in part[0].squares}
            maps = models.predict([image.identity for image in part], squares)
        except Exception as fault:
            if not out_of_memory(fault):
                raise
            memory = " ".join(str(fault).split())[:200] or type(fault).__name__
        if memory:  # outside `except`, because there the exception keeps alive what filled the memory
            _empty_gpu_cache()
            batch.halve(memory)
            models.limit_batch(batch.size)
            continue
        yield from maps
        done += len(part)


def _empty_gpu_cache() -> None:
    torch = sys.modules.get("torch")  # a detector that has not loaded it has nothing on a GPU
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
