"""Scoring images with a fitted EAR.

Legend: N images; B of them in a batch; S side in pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from stages.detectors.ear.config import MASK_KINDS, EarConfig, MaskKind
from stages.detectors.ear.image_masks import image_mask, searches_in
from stages.detectors.ear.mask_sources import source_rows
from stages.detectors.ear.pixel_scores import score_by_pixels
from stages.detectors.ear.unet import UNet
from stages.detectors.shared.comparison import BATCH, Comparison
from stages.detectors.shared.nearest import Memory
from stages.detectors.shared.network_weights import load_weights
from stages.detectors.shared.resizing import reduce_images
from stages.torch_setup import one_thread
from stages.types import Fitted, Samples, ScoreMap, batches


def score(fitted: Fitted, samples: Samples, config: EarConfig, device: str) -> Iterator[ScoreMap]:
    """Yield the result of each image. It takes one forward pass per image and kind of mask.

    The map is that of `config.compare`. Pixel maps are standardised and smoothed, and the image score is the mean of
    their highest `top_fraction`. If features are compared, the image score is the maximum of the map.

    Extras: `max` and `mean` of the map; `ssim` and `msgms`, the image score by each kind of pixel map; `score_<kind>`,
    the image score by pixels with each kind of mask. Pictures: `restoration`, `mask` and `mask_<kind>`.

    Raises:
        UserError: the samples come without what a mask or the comparison reads.
    """
    network = _load_network(fitted, config, device)
    kinds = [kind for kind in MASK_KINDS if kind in fitted.info["kinds"]] if config.compare_masks else [config.mask]
    memories: dict[MaskKind, Memory] = {
        kind: Memory.from_arrays(fitted.arrays, f"memory.{kind}.") for kind in kinds if kind != "attention"
    }
    searches = searches_in(memories, config, device)
    comparison = Comparison(fitted.arrays, samples.imagenet, config) if config.compare == "features" else None
    sources = {kind: source_rows(samples, kind) for kind in kinds}
    for rows in batches(len(samples), BATCH):
        images = samples.images[rows]
        read = {kind: source[rows] for kind, source in sources.items()}
        results = []
        with one_thread():
            for i, image in enumerate(reduce_images(images, config.image_side)):
                masks = {kind: image_mask(source[i], searches.get(kind), config) for kind, source in read.items()}
                results.append(score_by_pixels(network, image, masks, fitted, config))
        cut = np.stack([result.pictures["mask"] for result in results])
        compared = results if comparison is None else comparison.score(images, results, cut)
        yield from map(_with_map_statistics, compared)


def _load_network(fitted: Fitted, config: EarConfig, device: str) -> UNet:
    """The trained network, in eval mode."""
    with torch.random.fork_rng(devices=()):  # a new network samples its first weights
        network = UNet(config.width, config.depth)
    load_weights(network, fitted.arrays)
    return network.to(device).eval()


def _with_map_statistics(result: ScoreMap) -> ScoreMap:
    """Add maximum and mean of the map to the extras."""
    plane = result.anomaly_map
    statistics = {"max": float(plane.max()), "mean": float(plane.mean(dtype=np.float64))}
    return replace(result, extras={**result.extras, **statistics})
