"""The denoiser's output for the tokens of an image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pipeline.stage_io.dependencies import code_of_item
from stages.denoise.denoiser import apply_denoiser
from stages.item_cache import Item, item_key
from stages.types import Fitted, Rows


@dataclass(frozen=True)
class CleanTokens:
    """Applies a denoiser to stored tokens."""

    denoiser: Fitted
    digest: str
    """Digest of the denoiser."""
    backbone: str
    """Digest of the backbone that made the tokens."""
    device: str

    def keys(self, digests: Iterable[str]) -> list[str]:
        """Item keys of images."""
        parameters: Any = ["clean", self.backbone, self.device]
        code = code_of_item(__name__)
        return [item_key(image=sha, weights=self.digest, parameters=parameters, code=code) for sha in digests]

    @cached_property
    def _apply(self) -> Callable[..., Any]:
        return apply_denoiser(self.denoiser, self.device)

    def items(self, raw: Rows, rows: Sequence[int]) -> Iterator[Item]:
        """The items of some rows of the raw tokens (N, h, w, C)."""
        for tokens in self._apply(raw[np.asarray(rows)].astype(np.float32)):
            yield {"tokens": tokens.astype(np.float16)}
