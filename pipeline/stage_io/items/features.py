"""Patch tokens and class attention of an image."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.compute.executors import cores
from pipeline.compute.prefetch import prefetch
from pipeline.stage_io.dependencies import code_of_item
from stages.images import decode, to_square
from stages.item_cache import Item, item_key
from stages.types import Fitted, UserError, batches

if TYPE_CHECKING:
    from stages.backbone.networks.interface import Backbone, Features

CHUNK, GPU_CHUNK = 64, 512
"""Largest number of images that a worker gets at once; on a GPU several batches, so that the next is decoded
meanwhile."""


@dataclass(frozen=True)
class FeaturesWork:
    """Computes items of images from image files."""

    backbone: Fitted
    device: str

    @cached_property
    def _loaded(self) -> Backbone:
        from stages.backbone.networks.load import load

        return load(self.backbone, self.device)

    def keys(self, digests: Iterable[str]) -> list[str]:
        """Item keys of images. The device is part of the key, since its last bits differ from other devices'."""
        code = code_of_item(__name__)
        weights, parameters = self.backbone.info["digest"], ["features", self.device]
        return [item_key(image=sha, weights=weights, parameters=parameters, code=code) for sha in digests]

    @property
    def chunk(self) -> int:
        """Images per chunk, for `fan_out`."""
        return CHUNK if self.device == "cpu" else GPU_CHUNK

    def __call__(self, payloads: Sequence[bytes]) -> Iterator[Item]:
        batches_of_features = self._one_by_one(payloads) if self.device == "cpu" else self._in_step(payloads)
        files = iter(payloads)
        for features in batches_of_features:
            for i, tokens in enumerate(features.tokens):
                item = {"tokens": _checked(tokens.astype(np.float16), next(files))}
                if features.attention is not None:
                    item["attention"] = features.attention[i].astype(np.float16)
                yield item

    def _decoded(self, file: bytes) -> NDArray[np.uint8]:
        return to_square(decode(file), self._loaded.image_side)

    def _one_by_one(self, payloads: Sequence[bytes]) -> Iterator[Features]:
        """A CPU gains nothing from several images at once, so each image is stored as soon as it is done."""
        for file in payloads:
            yield self._loaded.extract(self._decoded(file)[None])

    def _in_step(self, payloads: Sequence[bytes]) -> Iterator[Features]:
        """While the device computes a batch, threads decode the next batch, and the previous one is stored."""
        from stages.backbone.networks.load import GPU_BATCH

        backbone = self._loaded
        with ThreadPoolExecutor(cores()) as decoders:
            parts = batches(len(payloads), GPU_BATCH)
            decoded = prefetch(np.stack(list(decoders.map(self._decoded, payloads[part]))) for part in parts)
            yield from prefetch(backbone.extract(images) for images in decoded)


def _checked(tokens: NDArray[np.float16], file: bytes) -> NDArray[np.float16]:
    """The tokens (h, w, C) of an image. Raises UserError if they are not all finite."""
    wrong = int((~np.isfinite(tokens)).any(-1).sum())
    if wrong:
        raise UserError(
            f"image {hashlib.sha256(file).hexdigest()[:12]}: {wrong} of {tokens[..., 0].size} tokens are NaN, infinite "
            "or beyond 65,504; check the backbone's weights"
        )
    return tokens
