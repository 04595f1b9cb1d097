"""EAR in tokens: the cut is restored from a mosaic of its tokens, and what is left of it is judged.

Outside the cut the network sees, and copies, what is there. So the map counts in the cut only. What is left of good
images at a place is measured with the place cut: masks that together cover the grid (`tilings`) cut each place once in
each image.

Legend: N images; h, w grid; C channels; Z principal components.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stages.detectors.ear.config import EarConfig, MaskKind
from stages.detectors.ear.restore import as_tensor, restore
from stages.detectors.ear.unet import UNet
from stages.detectors.shared.token_space import RestFitter, TokenJudge, TokenSpace
from stages.types import ScoreMap

BLOCKS = 4
"""Blocks along a side of the grid that `tilings` share out."""
Mask = NDArray[np.bool_]


def tilings(shape: tuple[int, int], fraction: float) -> NDArray[np.bool_]:
    """(J, h, w): J masks of about `fraction` of the grid each, that together cover each cell once.

    Their blocks are a quarter of the grid's side, as large as a mask's blot may be. Each mask has blocks from all
    around; the order is drawn once, and always the same.
    """
    rows, columns = (np.arange(cells) * BLOCKS // cells for cells in shape)
    block = rows[:, None] * BLOCKS + columns  # (h, w)
    count = max(1, round(1 / fraction))
    turn = np.random.default_rng(0).permutation(BLOCKS**2) % count
    masks = turn[block] == np.arange(count)[:, None, None]
    return masks[masks.any(axis=(1, 2))]


@dataclass(frozen=True)
class Recover:
    """Restores reduced tokens under a mask: by the network, or by the mean of good images, which is zero there."""

    network: UNet | None
    scale: int

    def __call__(self, reduced: NDArray[np.float32], mask: Mask) -> NDArray[np.float32]:
        """(h, w, Z) and (h, w) -> (h, w, Z)."""
        if self.network is None:
            return np.zeros_like(reduced)
        # rounded as training sees them
        seen = as_tensor(reduced[None].astype(np.float16))
        restored = restore(self.network, seen, torch.from_numpy(mask)[None, None], self.scale)
        return restored[0].permute(1, 2, 0).numpy()


class TokenFitter:
    """Fits the Gaussian over what restorations leave of good images."""

    def __init__(self, recover: Recover, space: TokenSpace, config: EarConfig) -> None:
        self._recover, self._rest = recover, RestFitter(space)
        self._tilings = tilings(space.shape[:2], config.mask_fraction)

    def add(self, tokens: NDArray[np.float16]) -> Mapping[str, NDArray[Any]]:
        """Add tokens (N, h, w, C) of good images; the arrays of all images added so far."""
        return self._rest.add(tokens, self._everywhere)

    def _everywhere(self, reduced: NDArray[np.float32]) -> NDArray[np.float32]:
        restored = np.zeros_like(reduced)
        for mask in self._tilings:
            restored[mask] = self._recover(reduced, mask)[mask]
        return restored


def score_by_tokens(
    judge: TokenJudge,
    recover: Recover,
    tokens: NDArray[np.floating],
    masks: Mapping[MaskKind, Mask],
    deployed: MaskKind,
) -> ScoreMap:
    """Score the tokens (h, w, C) of one image under each of its masks (h, w).

    Map and image score, the map's maximum, are those of the deployed kind of mask. Extras: the image score with each
    mask (`score_<kind>`). Pictures: `tokens` and `restoration`, the first three principal components as colours.
    """
    reduced = judge.space.reduce(tokens)
    restored = {kind: recover(reduced, mask) for kind, mask in masks.items()}
    planes = {kind: judge.map(tokens, restored[kind], masks[kind]) for kind in masks}
    shown = np.where(masks[deployed][..., None], restored[deployed], reduced)
    return ScoreMap(
        planes[deployed],
        float(planes[deployed].max()),
        extras={f"score_{kind}": float(plane.max()) for kind, plane in planes.items()},
        pictures={"tokens": judge.space.picture(reduced), "restoration": judge.space.picture(shown)},
    )
