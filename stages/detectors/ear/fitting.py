"""Fitting EAR: the network, the mosaic, and the statistics of good images' maps.

Legend: N images; S side in pixels.
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
from stages.detectors.ear.restore import Masked, restore_images, scale_errors, train
from stages.detectors.ear.unet import UNet
from stages.detectors.shared.comparison import ComparisonFitter
from stages.detectors.shared.network_weights import weights_of
from stages.detectors.shared.pixel_maps import PixelStatistics
from stages.detectors.shared.resizing import reduce_images
from stages.training import Session
from stages.types import Fitted, Samples


@dataclass(frozen=True)
class GoodImages:
    """Good images, as the comparison and as the network sees them, with their masks."""

    samples: Samples
    small: NDArray[np.uint8]
    """(N, S, S, 3)."""
    masks: Mapping[MaskKind, NDArray[np.bool_]]
    """(N, S, S) of each kind of mask."""

    def masked(self, kind: MaskKind) -> Masked:
        return Masked(self.small, self.masks[kind])


@dataclass(frozen=True)
class State:
    """A trained network, and the sums over the good images that have been added to its statistics."""

    network: UNet
    trained: Fitted
    """Weights and memories, what was chosen, and metrics: the part of the model that more images do not change."""
    statistics: Mapping[MaskKind, PixelStatistics]
    comparison: ComparisonFitter | None
    """None if pixels are compared."""


def prepare(
    samples: Samples, kinds: Sequence[MaskKind], searches: Searches, config: EarConfig, in_memory: bool
) -> GoodImages:
    """Reduce images to the network's side, and make their masks.

    Args:
        in_memory: the images are those that the memories were sampled from.
    """
    masks = {kind: masks_of_images(samples, kind, searches, config, in_memory) for kind in kinds}
    return GoodImages(samples, reduce_images(samples.images, config.image_side), masks)


def train_network(
    training: GoodImages, validation: GoodImages, memories: Memories, config: EarConfig, seed: int, session: Session
) -> State:
    """Train the network on training images, and choose the mosaic on validation images."""
    network, history = train(training.masked(config.mask), validation.masked(config.mask), config, seed, session)
    network.to(session.device)
    errors = scale_errors(network, validation.masked(config.mask), config)
    scale = choose_scale(errors, config.hint_tolerance)
    kinds = list(training.masks)
    metrics = {
        "epochs": len(history.epochs),
        "best_epoch": history.best_epoch,
        **history.epochs[history.best_epoch],
        "mosaic": None if scale == NO_HINT else scale,
        "mosaic_curve": {str(candidate): error for candidate, error in errors.items()},
        "masks_compared": kinds,
        "masks_left_out": {kind: reason_left_out(kind, config) for kind in MASK_KINDS if kind not in kinds},
    }
    arrays = weights_of(network)
    for kind, memory in memories.items():
        arrays |= memory.to_arrays(f"memory.{kind}.")
    return State(
        network=network,
        trained=Fitted(arrays, info={"kinds": kinds, "scale": scale}, metrics=metrics),
        statistics={kind: PixelStatistics(config.image_side) for kind in kinds},
        comparison=ComparisonFitter(training.samples.imagenet, config) if config.compare == "features" else None,
    )


def extend(state: State, images: GoodImages, config: EarConfig) -> Fitted:
    """Add good images to the statistics; the model of all images added so far."""
    trained, arrays = state.trained, dict[str, NDArray[Any]](state.trained.arrays)
    for kind, statistics in state.statistics.items():
        restorations = restore_images(state.network, images.masked(kind), trained.info["scale"], statistics)
        arrays |= statistics.to_arrays(f"{kind}.")
        if kind == config.mask and state.comparison is not None:
            state.comparison.add(images.samples.images, restorations, images.masks[kind])
            arrays |= state.comparison.arrays()
    return Fitted(arrays, trained.info, trained.metrics)
