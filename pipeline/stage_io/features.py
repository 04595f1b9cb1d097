"""Stage `features`: patch tokens and class attention of every image, through the item cache."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline import paths
from pipeline.executors import cores
from pipeline.fan_out import fan_out
from pipeline.params import Params
from pipeline.stage_io.rows import read_manifest
from pipeline.stage_io.saving import load_fitted, output
from pipeline.stage_io.session import bar, open_cache, report_counts
from stages.array_store import RowWriter
from stages.download.images import decode, to_square
from stages.item_cache import Item, code_version, item_key
from stages.types import Fitted, UserError, batches

if TYPE_CHECKING:
    from stages.backbone.interface import Backbone, Features

CHUNK, GPU_CHUNK = 64, 512
"""Images that a worker gets at once, at most; on a GPU several batches, so that one is made ready beside the other."""

T = TypeVar("T")


@dataclass(frozen=True)
class FeaturesWork:
    """What a worker does with image files."""

    backbone: Fitted
    device: str

    @cached_property
    def _loaded(self) -> Backbone:
        from stages.backbone.load import load

        return load(self.backbone, self.device)

    def keys(self, digests: Iterable[str]) -> list[str]:
        """Item keys of images. The device counts: its last bits are its own."""
        code = code_version("stages.backbone", "stages.download.images")
        weights, parameters = self.backbone.info["digest"], ["features", self.device]
        return [item_key(image=sha, weights=weights, parameters=parameters, code=code) for sha in digests]

    @property
    def chunk(self) -> int:
        """Images at once, for `fan_out`."""
        return CHUNK if self.device == "cpu" else GPU_CHUNK

    def __call__(self, payloads: Sequence[bytes]) -> Iterator[Item]:
        found = self._one_by_one(payloads) if self.device == "cpu" else self._in_step(payloads)
        files = iter(payloads)
        for features in found:
            for i, tokens in enumerate(features.tokens):
                item = {"tokens": _checked(tokens.astype(np.float16), next(files))}
                if features.attention is not None:
                    item["attention"] = features.attention[i].astype(np.float16)
                yield item

    def _decoded(self, file: bytes) -> NDArray[np.uint8]:
        return to_square(decode(file), self._loaded.image_side)

    def _one_by_one(self, payloads: Sequence[bytes]) -> Iterator[Features]:
        """A CPU gains nothing from several at once, and so each is stored as soon as it is done."""
        for file in payloads:
            yield self._loaded.extract(self._decoded(file)[None])

    def _in_step(self, payloads: Sequence[bytes]) -> Iterator[Features]:
        """While the device computes a batch, threads decode the next, and the one before is stored."""
        from stages.backbone.load import GPU_BATCH

        backbone = self._loaded
        with ThreadPoolExecutor(cores()) as decoders:
            parts = batches(len(payloads), GPU_BATCH)
            decoded = ahead(np.stack(list(decoders.map(self._decoded, payloads[part]))) for part in parts)
            yield from ahead(backbone.extract(images) for images in decoded)


def ahead(source: Iterator[T]) -> Iterator[T]:
    """The same in the same order, each made in a thread while the one before is used: at most one lies ready."""
    end = object()
    with ThreadPoolExecutor(1) as thread:
        coming: Future[Any] = thread.submit(next, source, end)
        while (made := coming.result()) is not end:
            coming = thread.submit(next, source, end)
            yield made


def _checked(tokens: NDArray[np.float16], file: bytes) -> NDArray[np.float16]:
    """The tokens (h, w, C) of an image, if all are numbers."""
    wrong = int((~np.isfinite(tokens)).any(-1).sum())
    if wrong:
        raise UserError(
            f"image {hashlib.sha256(file).hexdigest()[:12]}: {wrong} of {tokens[..., 0].size} tokens are NaN, infinite "
            "or beyond 65,504; check the backbone's weights"
        )
    return tokens


def features(params: Params) -> None:
    """data/features/raw: tokens.zarr (N, h, w, C) and, with a class token, attention.zarr (N, heads, h, w); float16."""
    from stages.torch_setup import device_named

    manifest = read_manifest()
    fitted, _ = load_fitted(paths.BACKBONE)
    work = FeaturesWork(fitted, device_named(params.compute.device))
    keys, cache = work.keys(manifest["sha256"]), open_cache(params.compute)
    files = [paths.RAW / path for path in manifest["path"]]
    shown, at = bar("features", len(keys))
    with shown, output(paths.FEATURES) as folder, ExitStack() as stack:
        writers: dict[str, RowWriter] = {}
        for item in fan_out(params.compute, cache, keys, lambda i: files[i].read_bytes(), work, work.chunk, at):
            for name, row in item.items():
                if name not in writers:
                    writers[name] = stack.enter_context(RowWriter(folder / f"{name}.zarr", len(keys)))
                writers[name].append(row)
    report_counts("features", cache.counts, cache)
