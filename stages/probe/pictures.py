"""Tokens as colours, and as similarity to one patch: pictures of what denoising changed.

Legend: h, w patch grid; C channels.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


def as_colours(raw: Array, clean: Mapping[str, Array], artifact: Array) -> dict[str, NDArray[np.uint8]]:
    """(h, w, 3) pictures `raw`, those of `clean`, and `artifact`, from tokens (h, w, C) of one image.

    The three principal components of raw and clean tokens together are red, green and blue, in one scale for all
    pictures; the artifact, a difference, is shown around middle grey. So equal colours mean equal features.
    """
    maps = {"raw": raw, **clean}
    tokens = np.concatenate([np.asarray(value, np.float64).reshape(-1, raw.shape[-1]) for value in maps.values()])
    mean = tokens.mean(0)
    _, axes = np.linalg.eigh(np.atleast_2d(np.cov(tokens.T)))  # by rising variance
    basis = axes[:, ::-1][:, :3]
    basis = basis * np.where(basis.sum(0) < 0, -1.0, 1.0)  # the sign of a component is arbitrary
    spread = np.quantile(np.abs((tokens - mean) @ basis), 0.995) or 1.0  # a few outliers must not grey all other tokens

    def colours(value: Array) -> NDArray[np.uint8]:
        coordinates = np.asarray(value, np.float64) @ basis / spread  # (h, w, 3)
        padded = np.zeros((*coordinates.shape[:2], 3))
        padded[..., : coordinates.shape[2]] = coordinates
        return np.clip(np.rint(127.5 + 127.5 * padded), 0, 255).astype(np.uint8)

    return {name: colours(value - mean) for name, value in maps.items()} | {"artifact": colours(artifact)}


def likeness_to_centre(tokens: Array) -> NDArray[np.float64]:
    """(h, w) cosine similarity of each token of (h, w, C) to the token of the middle patch, in [-1, 1]."""
    values = np.asarray(tokens, np.float64)
    units = values / np.maximum(np.linalg.norm(values, axis=-1, keepdims=True), 1e-12)
    return units @ units[values.shape[0] // 2, values.shape[1] // 2]
