"""InTra in tokens: patches of tokens are painted anew, and what is left of them is judged.

Legend: N images; h, w grid; C channels; Z principal components.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.detectors.intra.config import IntraConfig
from stages.detectors.intra.model import InpaintingTransformer
from stages.detectors.intra.restore import inpaint, load
from stages.detectors.shared.features import feature_batches
from stages.detectors.shared.token_space import RestFitter, TokenJudge, TokenSpace
from stages.types import Fitted, Samples, ScoreMap


class Painter:
    """Restores reduced tokens (h, w, Z): by the network, or by the mean of good images, which is zero there."""

    def __init__(
        self, network: InpaintingTransformer | None, space: TokenSpace, config: IntraConfig, device: str
    ) -> None:
        self._network, self._config, self._device = network, config, device
        self._canvas = config.canvas(space.shape)

    def __call__(self, reduced: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._network is None:
            return np.zeros_like(reduced)
        # rounded as training sees them
        painted = inpaint(self._network, reduced.astype(np.float16), self._canvas, self._config, self._device)
        restored: NDArray[np.float32] = painted.cpu().numpy()
        return restored


class TokenFitter:
    """Fits the Gaussian over what the restoration leaves of good images."""

    def __init__(
        self, network: InpaintingTransformer | None, space: TokenSpace, config: IntraConfig, device: str
    ) -> None:
        self._paint, self._rest = Painter(network, space, config, device), RestFitter(space)

    def add(self, tokens: NDArray[np.float16]) -> Mapping[str, NDArray[Any]]:
        """Add tokens (N, h, w, C) of good images; the arrays of all images added so far."""
        return self._rest.add(tokens, self._paint)


def score(fitted: Fitted, samples: Samples, config: IntraConfig, device: str) -> Iterator[ScoreMap]:
    """Yield the map (h, w) of what is left, and its maximum as image score.

    Pictures: `tokens` and `restoration`, the first three principal components as colours.
    """
    judge = TokenJudge(fitted.arrays, config.smoothing)
    network = None
    if config.restore == "network":
        network = load(fitted.arrays, config, config.canvas(judge.space.shape)).to(device)
    paint = Painter(network, judge.space, config, device)
    for block in feature_batches(samples, config.features):
        for tokens in block:
            reduced = judge.space.reduce(tokens)
            restored = paint(reduced)
            plane = judge.map(tokens, restored)
            pictures = {"tokens": judge.space.picture(reduced), "restoration": judge.space.picture(restored)}
            yield ScoreMap(plane, float(plane.max()), pictures=pictures)
