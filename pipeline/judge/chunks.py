"""Images read a chunk at a time beside the models' work, and judged a batch at a time, as large as memory allows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.compute.executors import cores
from pipeline.compute.prefetch import prefetch
from pipeline.judge.images import Opened, read
from pipeline.project.faults import out_of_memory
from stages.download.config import DataConfig
from stages.types import ScoreMap, UserError


class Judge(Protocol):
    """See `pipeline.judge.models.Models`."""

    def judge(self, ids: Sequence[str], images: dict[int, NDArray[np.uint8]]) -> list[dict[str, ScoreMap]]: ...

    def at_most(self, images: int) -> None: ...


@dataclass
class Batch:
    """How many images go through the models together."""

    size: int
    on_halved: Callable[[int], None]
    """Called with the new size."""

    def halve(self, memory: str) -> None:
        """Raises UserError where there is nothing to halve."""
        if self.size == 1:
            raise UserError(f"out of memory with one image at once ({memory}): free some, or choose fewer --detector")
        self.size //= 2
        self.on_halved(self.size)


TOO_LARGE = "its pixels do not fit into memory"


def opened(paths: Sequence[str], sides: Iterable[int], data: DataConfig, batch: Batch) -> Iterator[list[Opened]]:
    """Images in order, in chunks of the batch's size; threads read the next chunk while one is used.

    Where memory does not do for several at once, they are read one after the other.
    """
    wanted = tuple(sides)

    def alone(path: str) -> Opened:
        try:
            return read(path, wanted, data)
        except MemoryError:
            return Opened(path, fault=TOO_LARGE)

    def chunks(pool: ThreadPoolExecutor) -> Iterator[list[Opened]]:
        start = 0
        while start < len(paths):
            part = paths[start : start + batch.size]
            start += len(part)
            try:
                yield list(pool.map(lambda path: read(path, wanted, data), part))
            except MemoryError:
                yield [alone(path) for path in part]

    with ThreadPoolExecutor(cores()) as pool:
        yield from prefetch(chunks(pool))


def judged(
    models: Judge, chunks: Iterable[list[Opened]], batch: Batch
) -> Iterator[tuple[Opened, dict[str, ScoreMap] | None]]:
    """Each image with its score maps by detector; None where it could not be read.

    Raises:
        UserError: memory does not even do for one image.
    """
    for chunk in chunks:
        maps = _in_batches(models, [image for image in chunk if not image.fault], batch)
        for image in chunk:
            yield image, None if image.fault else next(maps)


def _in_batches(models: Judge, images: Sequence[Opened], batch: Batch) -> Iterator[dict[str, ScoreMap]]:
    done = 0
    while done < len(images):
        part, memory = images[done : done + batch.size], ""
        try:
            squares = {side: np.stack([image.squares[side] for image in part]) for side in part[0].squares}
            found = models.judge([image.sha256 for image in part], squares)
        except Exception as fault:
            if not out_of_memory(fault):
                raise
            memory = " ".join(str(fault).split())[:200] or type(fault).__name__
        if memory:  # not above, where the exception still holds on to what filled the memory
            _release()
            batch.halve(memory)
            models.at_most(batch.size)
            continue
        yield from found
        done += len(part)


def _release() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
