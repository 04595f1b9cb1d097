"""DVT step 1 on an image: its tokens, split into content and an artifact that depends on a patch's position."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.stage_io.dependencies import code_of_item
from stages.denoise.config import DenoiseConfig
from stages.images import decode
from stages.item_cache import Item, item_key
from stages.types import Fitted, UserError

if TYPE_CHECKING:
    from stages.backbone.networks.interface import Backbone

CHUNK = {"cpu": 4, "cuda": 16}
"""Images that a worker processes at once; on a GPU they are solved together."""


@dataclass(frozen=True)
class DenoiseWork:
    """Computes items of images from (digest, file)."""

    backbone: Fitted
    config: DenoiseConfig
    seed: int
    device: str

    def keys(self, digests: Iterable[str]) -> list[str]:
        """Item keys of images."""
        code = code_of_item(__name__)
        parameters = {"denoise": self.config.parameters_of_one_image(), "seed": self.seed, "device": self.device}
        weights = self.backbone.info["digest"]
        return [item_key(image=sha, weights=weights, parameters=parameters, code=code) for sha in digests]

    @cached_property
    def _loaded(self) -> Backbone:
        from stages.backbone.networks.load import load

        return load(self.backbone, self.device)

    def __call__(self, payloads: Sequence[tuple[str, bytes]]) -> Iterator[Item]:
        from stages.denoise.per_image.denoise import denoise_images

        images = [np.asarray(decode(file)) for _, file in payloads]
        digests = [digest for digest, _ in payloads]
        for done in denoise_images(images, digests, self._loaded, self.config, self.seed, self.device):
            if isinstance(done, UserError):  # one bad image never stops the others: it is recorded and left out
                yield {"fault": _text(str(done))}
                continue
            item: dict[str, NDArray[Any]] = {
                "raw": done.raw.astype(np.float16),
                "clean": done.clean.astype(np.float16),
                "artifact": done.artifact.astype(np.float16),
                "residual": done.residual.astype(np.float32),
                "diagnostics": _text(json.dumps(dict(done.diagnostics), sort_keys=True)),
            }
            if not all(np.isfinite(item[name]).all() for name in ("raw", "clean", "artifact")):
                yield {"fault": _text("tokens are beyond 65,504, the most that float16 holds; check the backbone")}
                continue
            if done.terms is not None:
                item |= {"schur": done.terms.schur, "right": done.terms.right, "response": done.terms.response}
            yield item


def _text(value: str) -> NDArray[np.uint8]:
    return np.frombuffer(value.encode(), np.uint8)
