"""Images of a split and their tokens by the pretrained ViT `focus`, kept in files. For the benchmark `table`."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stages.backbone.config import BackboneConfig
from stages.images import decode, to_square
from stages.training import Session
from tests.benchmarks.pasted import FULL_SIDE, with_defects
from tests.benchmarks.thresholds import Data

BLOCKS = (6, 9, 12)
"""Blocks of `focus` whose tokens are kept."""
Images = Callable[[int], NDArray[np.uint8]]
"""Side in pixels -> (N, S, S, 3)."""


@dataclass(frozen=True)
class Part:
    """Images of a split, at any side, and what is known of them. Pasted ones have no groups."""

    name: str
    images: Images
    count: int


@dataclass(frozen=True)
class Tokens:
    """The mean of some blocks' tokens: (N, h, w, 3 * C) of `BLOCKS` -> (N, h, w, C)."""

    stacked: NDArray[np.float16]
    blocks: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.stacked.shape[:3], self.stacked.shape[3] // len(BLOCKS))

    def __len__(self) -> int:
        return len(self.stacked)

    def __getitem__(self, index: Any, /) -> NDArray[np.float16]:
        apart = np.split(np.asarray(self.stacked[index], np.float32), len(BLOCKS), axis=-1)
        mean: NDArray[np.float32] = np.mean([apart[BLOCKS.index(block)] for block in self.blocks], axis=0)
        return mean.astype(np.float16)


def _extract(images: NDArray[np.uint8]) -> NDArray[np.float16]:
    from stages.backbone.build import build
    from stages.backbone.networks.load import load

    config = BackboneConfig(model="focus", image_side=images.shape[1], blocks=BLOCKS, join_blocks="stack")
    return load(build(config, images, images, 0, Session()), "cpu").extract(images).tokens.astype(np.float16)


def tokens_of(part: Part, side: int, keep: Path) -> NDArray[np.float16]:
    """From the file that keeps them, else computed by two processes."""
    path = keep / f"{part.name}-{side}.npy"
    if not path.exists():
        images = part.images(side)
        with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
            found = np.concatenate(list(pool.map(_extract, np.array_split(images, min(2, len(images))))))
        keep.mkdir(parents=True, exist_ok=True)
        np.save(path.with_suffix(".part.npy"), found)
        path.with_suffix(".part.npy").rename(path)
    return np.asarray(np.load(path, mmap_mode="r"))


def parts_of(title: str, data: Data, fold: int, quick: bool) -> tuple[dict[str, Part], NDArray[np.intp]]:
    """`train`, `validation`, `test` and `pasted`, and which images are the test's."""
    split = data.split(fold)
    rows = {name: np.flatnonzero(split == name) for name in ("train", "validation", "test")}
    if quick:
        rows = {name: own[:: max(1, len(own) // 12)] for name, own in rows.items()}

    def from_files(own: NDArray[np.intp]) -> Images:
        return lambda side: np.stack([to_square(decode(data.images[i].file.read_bytes()), side) for i in own])

    def with_pasted(side: int) -> NDArray[np.uint8]:
        full = from_files(rows["validation"])(FULL_SIDE)
        spoilt = [one for i, image in enumerate(full) for one in with_defects(image, i)]
        return np.stack([to_square(Image.fromarray(one), side) for one in spoilt])

    key = "quick" if quick else title.replace(" ", "-")
    parts = {name: Part(f"{key}-{fold}-{name}", from_files(own), len(own)) for name, own in rows.items()}
    parts["pasted"] = Part(f"{key}-{fold}-pasted", with_pasted, 5 * len(rows["validation"]))
    return parts, rows["test"]
