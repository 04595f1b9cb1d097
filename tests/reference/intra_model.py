"""A slow, independent InTra network: one window at a time, token by token, NumPy float64.

Written from the paper (arXiv:2104.13897, section 3.1): the weights come as arrays by name, the rest is loops.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.reference.intra_windows import centred_corner, window_pixels

Vector = NDArray[np.float64]
Weights = Mapping[str, NDArray[Any]]


def _linear(weights: Weights, name: str, x: Vector) -> Vector:
    y = np.asarray(weights[f"{name}.weight"], np.float64) @ x
    return y + weights[f"{name}.bias"] if f"{name}.bias" in weights else y


def _gelu(x: Vector) -> Vector:
    return np.array([0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in x])


def _mlp(weights: Weights, name: str, x: Vector) -> Vector:
    return _linear(weights, f"{name}.2", _gelu(_linear(weights, f"{name}.0", x)))


def _norm(weights: Weights, name: str, x: Vector) -> Vector:
    unit = (x - x.mean()) / math.sqrt(((x - x.mean()) ** 2).mean() + 1e-5)
    return unit * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def _attend(weights: Weights, name: str, tokens: list[Vector], heads: int) -> list[Vector]:
    queries = [np.split(_mlp(weights, f"{name}.query", x), heads) for x in tokens]
    keys = [np.split(_mlp(weights, f"{name}.key", x), heads) for x in tokens]
    values = [np.split(_linear(weights, f"{name}.value", x), heads) for x in tokens]
    mixed = []
    for query in queries:
        parts = []
        for head in range(heads):
            logits = np.array([query[head] @ key[head] / math.sqrt(len(query[head])) for key in keys])
            share = np.exp(logits - logits.max())
            share /= share.sum()
            parts.append(sum(a * value[head] for a, value in zip(share, values, strict=True)))
        mixed.append(_linear(weights, f"{name}.project", np.concatenate(parts)))
    return mixed


def inpaint_window(
    weights: Weights, patches: list[Vector], positions: list[int], covered: int, blocks: int, heads: int
) -> Vector:
    """The covered patch (P values) of one window.

    Args:
        patches: T times P values in [0, 1].
        positions: T positions, 1-based.
        covered: index of the covered patch among the T.
    """
    tokens = []
    for index, (patch, place) in enumerate(zip(patches, positions, strict=True)):
        content = weights["inpaint"] if index == covered else _linear(weights, "embed", patch)
        tokens.append(content + np.asarray(weights["position"], np.float64)[place - 1])
    after: dict[int, list[Vector]] = {}
    for block in range(1, blocks + 1):
        for earlier in range(1, block):
            if earlier + block == blocks:
                tokens = [x + y for x, y in zip(tokens, after[earlier], strict=True)]
        name = f"blocks.{block - 1}"
        normed = [_norm(weights, f"{name}.norm_attention", x) for x in tokens]
        tokens = [x + y for x, y in zip(tokens, _attend(weights, f"{name}.attention", normed, heads), strict=True)]
        tokens = [x + _mlp(weights, f"{name}.mlp", _norm(weights, f"{name}.norm_mlp", x)) for x in tokens]
        after[block] = tokens
    return _linear(weights, "paint", np.mean(tokens, axis=0))


def inpaint_image(
    weights: Weights, image: NDArray[np.uint8], patch: int, window: int, blocks: int, heads: int
) -> NDArray[np.float64]:
    """(S, S, 3) uint8 -> (S, S, 3), each patch painted from its most central window, clipped to [0, 1]."""
    result = np.zeros(image.shape)
    grid = image.shape[0] // patch
    for t in range(1, grid + 1):
        for u in range(1, grid + 1):
            r, s = centred_corner(t, grid, window), centred_corner(u, grid, window)
            positions, patches = window_pixels(image, r, s, window, patch)
            values = [piece.reshape(-1) / 255.0 for piece in patches]
            painted = inpaint_window(weights, values, positions, positions.index((t - 1) * grid + u), blocks, heads)
            y, x = (t - 1) * patch, (u - 1) * patch
            result[y : y + patch, x : x + patch] = painted.reshape(patch, patch, 3).clip(0, 1)
    return result
