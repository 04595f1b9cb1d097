"""Types that all stages share: configurations, rows of arrays, score maps, and the error that a user can fix.

Legend of shapes, here and in all other modules: N images; S image side in pixels; h, w patch grid; C feature channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict


class UserError(Exception):
    """A fault that the user can fix. The message says what, where and what to do; it is shown without a traceback."""


class Config(BaseModel):
    """Base of all parameter sections: frozen, unknown keys refused, each field documented by the string below it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, strict=False)


class Rows(Protocol):
    """An array that is read a few rows at a time: a NumPy array, or a store on disk. The first axis counts images."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> NDArray[Any]:
        """Rows by integer, slice, or an array of integers, as a NumPy array."""
        ...


Extract = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""(B, S, S, 3) RGB images -> (B, h, w, C) features; the features of an image do not depend on the other images."""


@dataclass(frozen=True)
class Samples:
    """The inputs of detectors: aligned rows of N images. Rows may be lazy; read them in batches."""

    ids: Sequence[str]
    """N digests (sha256) of the image files; a digest identifies an image."""
    images: Rows
    """(N, S, S, 3) uint8, RGB, at the side that the detector asked for."""
    raw: Rows | None = None
    """(N, h, w, C) float16, patch tokens of the frozen backbone."""
    clean: Rows | None = None
    """(N, h, w, C) float16, patch tokens after the DVT denoiser."""
    attention: Rows | None = None
    """(N, heads, h, w) float16, the class token's attention to the patches; None for a backbone without a class
    token."""
    imagenet: Extract | None = None
    """Computes feature maps of a CNN trained on ImageNet, for `images` or for pictures made from them."""

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, index: Sequence[int] | NDArray[np.integer]) -> Samples:
        """The chosen images, in the given order."""
        rows = np.asarray(index, dtype=np.int64)

        def pick(source: Rows | None) -> Rows | None:
            return None if source is None else Subset(source, rows)

        return Samples(
            ids=[self.ids[i] for i in rows],
            images=Subset(self.images, rows),
            raw=pick(self.raw),
            clean=pick(self.clean),
            attention=pick(self.attention),
            imagenet=self.imagenet,
        )


@dataclass(frozen=True)
class Subset:
    """Rows of another `Rows`, chosen by index and read only when they are used."""

    source: Rows
    index: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.index), *self.source.shape[1:])

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, key: Any, /) -> NDArray[Any]:
        chosen = self.index[key]
        return self.source[chosen if chosen.ndim else int(chosen)]


def batches(count: int, size: int) -> Iterator[slice]:
    """Slices of at most `size` that cover range(count) in order."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


@dataclass(frozen=True)
class Fitted:
    """A fitted model as values, which are saved as one safetensors file and one JSON file."""

    arrays: Mapping[str, NDArray[Any]]
    info: Mapping[str, Any] = field(default_factory=dict)
    """JSON values: choices, and all that `score` needs beside the arrays."""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """JSON values for the metrics of the run, such as final losses or the curve of a choice."""
    held_out: Sequence[ScoreMap] = ()
    """Results of the training-only model on the validation images, in order; empty unless this model is also fitted on
    them."""


@dataclass(frozen=True)
class ScoreMap:
    """The result of a detector for one image."""

    anomaly_map: NDArray[np.float32]
    """(S', S') at the detector's own resolution; higher = more anomalous."""
    image_score: float
    """Higher = more anomalous."""
    extras: Mapping[str, float] = field(default_factory=dict)
    """Further image scores by name (for example max and mean); the same names for each image."""
    pictures: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """Pictures that help to see why, by name: float16 (S', S') in [0, 1] (a mask) or uint8 (S', S', 3) (a
    restoration)."""
