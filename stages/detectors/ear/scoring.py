"""Scoring images with a fitted EAR.

Legend: N images; S side in pixels or tokens; Z channels of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from stages.detectors.ear.config import MASK_KINDS, EarConfig, MaskKind
from stages.detectors.ear.image_masks import image_mask, searches_in
from stages.detectors.ear.mask_sources import source_rows
from stages.detectors.ear.pixels import Masks, score_by_pixels
from stages.detectors.ear.restore import new_network
from stages.detectors.ear.tokens import Recover, score_by_tokens
from stages.detectors.ear.unet import UNet
from stages.detectors.shared.features import feature_batches
from stages.detectors.shared.nearest import Memory
from stages.detectors.shared.network_weights import load_weights
from stages.detectors.shared.token_space import TokenJudge
from stages.torch_setup import one_thread
from stages.types import Fitted, Samples, ScoreMap, batches

_READ = 8
"""Images read at a time."""


def score(fitted: Fitted, samples: Samples, config: EarConfig, device: str) -> Iterator[ScoreMap]:
    """Yield the result of each image. It takes one forward pass per image and kind of mask.

    Of tokens, the map is what is left of them in the cut, smoothed, and the image score is its maximum. Of pixels, the
    map is that of `config.compare`, standardised and smoothed, and the image score is the mean of its highest
    `top_fraction`.

    Extras: `max` and `mean` of the map; `score_<kind>`, the image score with each kind of mask; of pixels also `ssim`
    and `msgms`, the image score by each kind of pixel map. Pictures: `restoration`, `mask` and `mask_<kind>`; of tokens
    also `tokens`.

    Raises:
        UserError: the samples come without what a mask reads, or without the tokens.
    """
    results = (_by_tokens if config.space == "tokens" else _by_pixels)(fitted, samples, config, device)
    while True:
        with one_thread():
            found = next(results, None)
        if found is None:
            return
        yield found


def _by_tokens(fitted: Fitted, samples: Samples, config: EarConfig, device: str) -> Iterator[ScoreMap]:
    judge = TokenJudge(fitted.arrays, config.smoothing)
    height, _, channels = judge.space.shape
    network = _load_network(fitted, config, channels, device) if config.restore == "network" else None
    recover = Recover(network, fitted.info["scale"])
    features = (tokens for block in feature_batches(samples, config.features) for tokens in block)
    for tokens, masks in zip(features, _masks(fitted, samples, config, height, device), strict=True):
        yield _finished(score_by_tokens(judge, recover, tokens, masks, config.mask), masks, config)


def _by_pixels(fitted: Fitted, samples: Samples, config: EarConfig, device: str) -> Iterator[ScoreMap]:
    network = _load_network(fitted, config, 3, device)
    images = (image for rows in batches(len(samples), _READ) for image in samples.images[rows])
    for image, masks in zip(images, _masks(fitted, samples, config, config.image_side, device), strict=True):
        yield _finished(score_by_pixels(network, image, masks, fitted, config), masks, config)


def _masks(fitted: Fitted, samples: Samples, config: EarConfig, side: int, device: str) -> Iterator[Masks]:
    """The masks of each image, by kind."""
    kinds = [kind for kind in MASK_KINDS if kind in fitted.info["kinds"]] if config.compare_masks else [config.mask]
    memories: dict[MaskKind, Memory] = {
        kind: Memory.from_arrays(fitted.arrays, f"memory.{kind}.") for kind in kinds if kind != "attention"
    }
    searches = searches_in(memories, config, device)
    sources = {kind: source_rows(samples, kind) for kind in kinds}
    for rows in batches(len(samples), _READ):
        read = {kind: source[rows] for kind, source in sources.items()}
        for i in range(len(read[config.mask])):
            yield {
                kind: image_mask(source[i], searches.get(kind), side, config.mask_fraction)
                for kind, source in read.items()
            }


def _load_network(fitted: Fitted, config: EarConfig, channels: int, device: str) -> UNet:
    """The trained network, in eval mode."""
    with torch.random.fork_rng(devices=()):  # a new network samples its first weights
        network = new_network(config, channels)
    load_weights(network, fitted.arrays)
    return network.to(device).eval()


def _finished(result: ScoreMap, masks: Masks, config: EarConfig) -> ScoreMap:
    """Add the masks to the pictures, and maximum and mean of the map to the extras."""
    shown = {f"mask_{kind}": mask.astype(np.float16) for kind, mask in masks.items()}
    plane = result.anomaly_map
    return replace(
        result,
        extras={**result.extras, "max": float(plane.max()), "mean": float(plane.mean(dtype=np.float64))},
        pictures={**result.pictures, "mask": masks[config.mask].astype(np.float16), **shown},
    )
