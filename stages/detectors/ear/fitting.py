"""Fitting EAR: the network, the mosaic, and the statistics of what is left of good images.

Legend: N images; S side in pixels or tokens; Z channels of them; h, w grid; C channels of the features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.detectors.ear.config import MASK_KINDS, EarConfig, MaskKind
from stages.detectors.ear.hint import NO_HINT, choose_scale
from stages.detectors.ear.image_masks import Memories, Searches, masks_of_images
from stages.detectors.ear.mask_sources import reason_left_out
from stages.detectors.ear.pixels import PixelFitter
from stages.detectors.ear.restore import Masked, scale_errors, train
from stages.detectors.ear.tokens import Recover, TokenFitter
from stages.detectors.ear.unet import UNet
from stages.detectors.shared.network_weights import weights_of
from stages.detectors.shared.token_space import TokenSpace
from stages.training import Session
from stages.types import Fitted, Samples, UserError


@dataclass(frozen=True)
class GoodImages:
    """Good images as the network sees them, with their masks."""

    seen: NDArray[Any]
    """(N, S, S, Z) uint8 pixels or float16 reduced tokens."""
    masks: Mapping[MaskKind, NDArray[np.bool_]]
    """(N, S, S) of each kind of mask."""
    tokens: NDArray[np.float16] | None
    """(N, h, w, C) if tokens are restored; S = h = w."""

    def masked(self, kind: MaskKind) -> Masked:
        return Masked(self.seen, self.masks[kind])


@dataclass(frozen=True)
class State:
    """A trained network, and the sums over the good images that have been added to its statistics."""

    trained: Fitted
    """Weights and memories, what was chosen, and metrics: the part of the model that more images do not change."""
    statistics: PixelFitter | TokenFitter

    def extend(self, images: GoodImages) -> Fitted:
        """Add good images to the statistics; the model of all images added so far."""
        if isinstance(self.statistics, PixelFitter):
            found: Mapping[str, NDArray[Any]] = self.statistics.add(images.seen, images.masks)
        else:
            assert images.tokens is not None
            found = self.statistics.add(images.tokens)
        return Fitted({**self.trained.arrays, **found}, self.trained.info, self.trained.metrics)


def prepare(
    samples: Samples,
    tokens: NDArray[np.float16] | None,
    space: TokenSpace | None,
    kinds: Sequence[MaskKind],
    searches: Searches,
    config: EarConfig,
    in_memory: bool,
) -> GoodImages:
    """Reduce tokens to what the network sees, and make the masks.

    Args:
        tokens, space: both None for pixels.
        in_memory: the images are those that the memories were sampled from.

    Raises:
        UserError: the network cannot halve the grid of tokens.
    """
    if tokens is None or space is None:
        seen: NDArray[Any] = samples.images[:]
    else:
        seen = np.stack([space.reduce(image).astype(np.float16) for image in tokens])
    side = seen.shape[1]
    try:
        config.check_side("the tokens' grid", side)
    except ValueError as error:
        raise UserError(f"ear: {error}") from None
    masks = {kind: masks_of_images(samples, kind, searches, side, config.mask_fraction, in_memory) for kind in kinds}
    return GoodImages(seen, masks, tokens)


def train_network(
    training: GoodImages,
    validation: GoodImages,
    space: TokenSpace | None,
    memories: Memories,
    config: EarConfig,
    seed: int,
    session: Session,
) -> State:
    """Train the network on training images, and choose the mosaic on validation images."""
    kinds = tuple(training.masks)
    metrics: dict[str, Any] = {
        "masks_compared": list(kinds),
        "masks_left_out": {kind: reason_left_out(kind, config) for kind in MASK_KINDS if kind not in kinds},
    }
    network, scale, arrays = None, NO_HINT, dict[str, NDArray[Any]]()
    if space is None or config.restore == "network":
        network, history = train(training.masked(config.mask), validation.masked(config.mask), config, seed, session)
        network.to(session.device)
        errors = scale_errors(network, validation.masked(config.mask), config)
        scale, arrays = choose_scale(errors, config.hint_tolerance), weights_of(network)
        metrics |= {
            "epochs": len(history.epochs),
            "best_epoch": history.best_epoch,
            **history.epochs[history.best_epoch],
            "mosaic": None if scale == NO_HINT else scale,
            "mosaic_curve": {str(candidate): error for candidate, error in errors.items()},
        }
    for kind, memory in memories.items():
        arrays |= memory.to_arrays(f"memory.{kind}.")
    trained = Fitted(arrays, info={"kinds": list(kinds), "scale": scale}, metrics=metrics)
    return State(trained, _statistics(network, kinds, scale, space, config))


def _statistics(
    network: UNet | None, kinds: tuple[MaskKind, ...], scale: int, space: TokenSpace | None, config: EarConfig
) -> PixelFitter | TokenFitter:
    if space is not None:
        return TokenFitter(Recover(network, scale), space, config)
    assert network is not None
    return PixelFitter(network, kinds, scale, config.image_side)
