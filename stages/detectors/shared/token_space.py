"""Tokens as EAR and InTra restore them, and the map of what the restoration leaves.

A token is taken less the mean of good images at its place, in channels of equal spread. Its principal components,
scaled to variance one, are what a network sees and restores. The map is the distance of what is left, in all channels,
from what is left on good images at that place (`stages.detectors.shared.gaussian`). Zeros restore the mean: then the
map is that of PaDiM on these channels.

Legend: N images; h, w grid; C channels; Z principal components.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from stages.detectors.shared.features import Kind, feature_batches
from stages.detectors.shared.gaussian import Distance, Gaussian, Sums
from stages.types import Samples, batches

SHRINKAGE, RIDGE = 0.5, 1e-3
"""Of the Gaussian of what is left, as PaDiM's defaults (`stages.detectors.padim.config`)."""
_AT_ONCE = 8
"""Images whose rest is computed at once."""
_COLOUR = 42
"""Grey levels of a standard deviation in pictures of tokens: three on either side of grey."""
PREFIX = "tokens."
"""Of the arrays in a fitted model."""


def read_tokens(samples: Samples, kind: Kind) -> NDArray[np.float16]:
    """(N, h, w, C) tokens of all images, in half precision as the backbone's are stored.

    Raises:
        UserError: the images come without tokens of this kind.
    """
    return np.concatenate([block.astype(np.float16) for block in feature_batches(samples, kind)])


@dataclass(frozen=True)
class TokenSpace:
    """From tokens to what a network restores, and back."""

    mean: NDArray[np.float32]
    """(h, w, C) mean of good images at each place."""
    spread: NDArray[np.float32]
    """(C,) standard deviation of each channel about that mean; 1 for a constant channel."""
    components: NDArray[np.float32]
    """(C, Z) principal directions, each of length 1."""
    scale: NDArray[np.float32]
    """(Z,) standard deviation along each of them; 1 where good images do not vary."""

    @classmethod
    def fit(cls, tokens: NDArray[np.float16], channels: int) -> TokenSpace:
        """
        Args:
            tokens: (N, h, w, C) of good images.
            channels: Z, at most C.
        """
        mean, width = tokens.mean(axis=0, dtype=np.float64), tokens.shape[-1]
        products, cells = np.zeros((width, width)), tokens[..., 0].size
        for image in tokens:
            centred = (image - mean).reshape(-1, width)
            products += centred.T @ centred
        deviation = np.sqrt(np.diagonal(products) / cells)
        spread = np.where(deviation > 0, deviation, 1.0)
        values, vectors = np.linalg.eigh(products / cells / spread / spread[:, None])
        highest = np.argsort(-values)[:channels]
        # a direction in which good images do not vary, up to rounding, is not scaled up
        scale = np.sqrt(np.where(values[highest] > 1e-9 * values.max(initial=0), values[highest], 1.0))
        return cls(*(part.astype(np.float32) for part in (mean, spread, vectors[:, highest], scale)))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> TokenSpace:
        return cls(*(np.asarray(arrays[PREFIX + name]) for name in cls.__dataclass_fields__))

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Arrays of a fitted model."""
        return {PREFIX + name: value for name, value in vars(self).items()}

    @property
    def shape(self) -> tuple[int, int, int]:
        """(h, w, Z) of what is restored."""
        return (*self.mean.shape[:2], len(self.scale))

    def reduce(self, tokens: NDArray[np.floating]) -> NDArray[np.float32]:
        """Tokens (h, w, C) of an image -> (h, w, Z)."""
        return np.asarray(self._standardised(tokens) @ self.components / self.scale, np.float32)

    def left(self, tokens: NDArray[np.floating], restored: NDArray[np.float32]) -> NDArray[np.float32]:
        """What a restoration (h, w, Z) leaves of tokens (h, w, C): (h, w, C)."""
        return np.asarray(self._standardised(tokens) - restored * self.scale @ self.components.T, np.float32)

    def picture(self, reduced: NDArray[np.float32]) -> NDArray[np.uint8]:
        """(h, w, Z) -> (h, w, 3): the first three components as red, green and blue."""
        shown = np.zeros((*reduced.shape[:2], 3), np.float32)
        first = reduced[..., :3]
        shown[..., : first.shape[-1]] = first
        return (128 + _COLOUR * shown).round().clip(0, 255).astype(np.uint8)

    def _standardised(self, tokens: NDArray[np.floating]) -> NDArray[np.float32]:
        return (tokens.astype(np.float32) - self.mean) / self.spread


class RestFitter:
    """Fits the Gaussian at each place over what restorations leave of good images."""

    def __init__(self, space: TokenSpace) -> None:
        self._space, self._sums = space, Sums()

    def add(
        self, tokens: NDArray[np.float16], restore: Callable[[NDArray[np.float32]], NDArray[np.float32]]
    ) -> dict[str, NDArray[Any]]:
        """Add good images.

        Args:
            tokens: (N, h, w, C).
            restore: (h, w, Z) reduced tokens of an image -> their restoration.

        Returns:
            Arrays for `TokenJudge`, fitted to all images added so far.
        """
        for rows in batches(len(tokens), _AT_ONCE):
            self._sums.add(
                np.stack([self._space.left(image, restore(self._space.reduce(image))) for image in tokens[rows]])
            )
        gaussian = self._sums.gaussian(SHRINKAGE, RIDGE, normalised=True)
        return self._space.to_arrays() | gaussian.to_arrays(f"{PREFIX}rest.")


class TokenJudge:
    """Maps of what restorations leave of tokens, with arrays from `RestFitter`."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]], smoothing: float) -> None:
        self.space = TokenSpace.from_arrays(arrays)
        self._distance, self._smoothing = Distance(Gaussian.from_arrays(arrays, f"{PREFIX}rest.")), smoothing

    def map(
        self,
        tokens: NDArray[np.floating],
        restored: NDArray[np.float32],
        restored_at: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.float32]:
        """(h, w) smoothed map of an image.

        Args:
            tokens: (h, w, C).
            restored: (h, w, Z).
            restored_at: (h, w) where the restoration counts; elsewhere the map is zero before it is smoothed. None:
                everywhere.
        """
        plane = self._distance(self.space.left(tokens, restored))
        if restored_at is not None:
            plane *= restored_at
        return gaussian_filter(plane, self._smoothing)
