"""Positional leakage: how well a patch's position can be read from its feature, on images that the regression never
saw.

Source: the probe of Yang et al., "Denoising Vision Transformers", ECCV 2024, section 3, as a ridge regression.
Legend: N images, h x w grid, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve as solve_linear

from stages.types import Rows, batches

BATCH = 32
"""Images read at once."""


@dataclass(frozen=True)
class Leakage:
    """R^2 of the regression on images that it was not fitted on; 0: no leakage, 1: the position is fully readable."""

    row: float
    column: float

    @property
    def mean(self) -> float:
        return (self.row + self.column) / 2


def positional_leakage(fitted: Rows, scored: Rows, ridge: float = 1e-3) -> Leakage:
    """Fit on the features `fitted` (N, h, w, C), score on `scored` (N', h, w, C) of other images.

    Channels are standardised; `ridge` is the penalty as a share of the number of tokens. What the images always show at
    a position (a frame, busbars) is leakage too, so only values on the same images are comparable.

    Raises:
        ValueError: no image, or maps that differ in shape.
    """
    if not len(fitted) or not len(scored) or fitted.shape[1:] != scored.shape[1:]:
        raise ValueError(f"cannot compare features {fitted.shape} and {scored.shape}")
    positions = _positions(fitted.shape[1], fitted.shape[2])
    channels = fitted.shape[3]
    count, total = 0, np.zeros(channels)
    square, cross = np.zeros((channels, channels)), np.zeros((channels, 2))
    for tokens in _tokens(fitted):
        target = np.tile(positions, (len(tokens) // len(positions), 1))
        count, total = count + len(tokens), total + tokens.sum(0)
        square, cross = square + tokens.T @ tokens, cross + tokens.T @ target
    mean = total / count
    covariance = square / count - np.outer(mean, mean)
    spread = np.sqrt(np.maximum(np.diag(covariance), 1e-12))
    matrix = covariance / np.outer(spread, spread) + ridge * np.eye(len(mean))
    # `places` have mean 0, so the cross term needs no centring.
    weights = solve_linear(matrix, cross / count / spread[:, None], assume_a="pos") / spread[:, None]
    errors = np.zeros(2)
    for tokens in _tokens(scored):
        target = np.tile(positions, (len(tokens) // len(positions), 1))
        errors += ((target - (tokens - mean) @ weights) ** 2).sum(0)
    row, column = 1 - errors / (len(scored) * (positions**2).sum(0))
    return Leakage(row=float(row), column=float(column))


def _positions(height: int, width: int) -> NDArray[np.float64]:
    """(h*w, 2) row and column of each patch, with mean 0."""
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    positions = np.stack([rows.ravel(), columns.ravel()], axis=1).astype(np.float64)
    return positions - positions.mean(0)


def _tokens(rows: Rows) -> Iterator[NDArray[np.float64]]:
    for chunk in batches(len(rows), BATCH):
        part = np.asarray(rows[chunk], dtype=np.float64)
        yield part.reshape(-1, part.shape[-1])  # (B, h, w, C) -> (B*h*w, C)
