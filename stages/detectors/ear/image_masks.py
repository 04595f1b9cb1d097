"""The masks of images: the memories that rarity is measured with, and the mask of each image from its source.

Legend: N images; S side in pixels or tokens; h, w patch grid; C channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.detectors.ear.config import EarConfig, MaskKind
from stages.detectors.ear.mask import attention_saliency, mask_of, rarity
from stages.detectors.ear.mask_sources import source_rows
from stages.detectors.shared.nearest import NO_OWNER, Memory, Search, sample_memory
from stages.types import Samples, batches

_READ = 32
"""Images read at a time."""
Memories = Mapping[MaskKind, Memory]
"""One memory of patch features for each kind of mask by rarity."""
Searches = Mapping[MaskKind, Search]


def sample_memories(training: Samples, kinds: Sequence[MaskKind], config: EarConfig, seed: int) -> Memories:
    """Sample the memory of each kind of mask by rarity from the tokens of the training images."""
    return {kind: _sample_memory(training, kind, config.memory_size, seed) for kind in kinds if kind != "attention"}


def _sample_memory(training: Samples, kind: MaskKind, size: int, seed: int) -> Memory:
    tokens = source_rows(training, kind)
    count, height, width, _ = tokens.shape
    return sample_memory((tokens[rows] for rows in batches(count, _READ)), count, height * width, size, seed)


def searches_in(memories: Memories, config: EarConfig, device: str) -> Searches:
    """The search in each memory."""
    return {kind: Search(memory, config.neighbours, device) for kind, memory in memories.items()}


def image_mask(
    source: NDArray[Any], search: Search | None, side: int, fraction: float, owner: int = NO_OWNER
) -> NDArray[np.bool_]:
    """The mask (S, S) of one image.

    Args:
        side: S, of what the network restores.
        fraction: share of the area that is cut out.
        source: (heads, h, w) attention, or (h, w, C) tokens.
        search: None for a mask by attention.
        owner: index of the image, if its tokens are in the memory.
    """
    saliency = attention_saliency(source) if search is None else rarity(source, search, owner)
    return mask_of(saliency, side, fraction)


def masks_of_images(
    samples: Samples, kind: MaskKind, searches: Searches, side: int, fraction: float, in_memory: bool
) -> NDArray[np.bool_]:
    """(N, S, S) masks of all images.

    Args:
        in_memory: the images are those that the memories were sampled from.
    """
    masks = np.empty((len(samples), side, side), dtype=np.bool_)
    sources = source_rows(samples, kind)
    for rows in batches(len(samples), _READ):
        for i, source in enumerate(sources[rows], start=rows.start):
            masks[i] = image_mask(source, searches.get(kind), side, fraction, i if in_memory else NO_OWNER)
    return masks
