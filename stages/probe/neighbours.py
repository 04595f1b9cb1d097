"""What features tell about defects without any training: the distance to the nearest feature of good images.

Legend: N images, h x w grid, C channels, M features in the memory.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from stages.torch_setup import one_thread
from stages.types import Rows


def sample_memory(tokens: Rows, count: int, seed: int) -> NDArray[np.float32]:
    """(M, C): `count` of the tokens of (N, h, w, C), or all, from each image the same number (or one more or less)."""
    if not len(tokens):
        raise ValueError("no images to sample from")
    rng, positions = np.random.default_rng(seed), tokens.shape[1] * tokens.shape[2]
    parts, remaining = [], min(count, len(tokens) * positions)
    for i in range(len(tokens)):
        share = remaining // (len(tokens) - i)
        chosen = np.sort(rng.choice(positions, share, replace=False))
        parts.append(np.asarray(tokens[i], np.float32).reshape(positions, -1)[chosen])
        remaining -= share
    return np.concatenate(parts)


def nearest_scores(memory: NDArray[np.float32], tokens: Rows, device: str = "cpu") -> NDArray[np.float64]:
    """(N,) image scores: the largest distance of a patch of (N, h, w, C) to its nearest feature in `memory` (M, C)."""
    features = torch.from_numpy(memory).to(device)
    squares = features.square().sum(1)
    scores = np.empty(len(tokens))
    with torch.inference_mode(), one_thread():
        for i in range(len(tokens)):
            patches = torch.from_numpy(np.asarray(tokens[i], np.float32)).to(device).flatten(0, 1)  # (h*w, C)
            nearest = (squares - 2 * patches @ features.T).amin(1) + patches.square().sum(1)
            scores[i] = float(nearest.amax().clamp_min(0).sqrt())
    return scores
