"""Slow, plain versions of the floor detectors: full decompositions, direct convolutions, a loop over positions."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate, gaussian_filter, uniform_filter


def pca_errors(train: NDArray[np.uint8], test: NDArray[np.uint8], components: int) -> NDArray[np.float64]:
    """Squared errors (N, D) of test images (N, S, S, 3) reconstructed from a full SVD of the training images."""

    def rows(images: NDArray[np.uint8]) -> NDArray[np.float64]:
        out = []
        for image in images:
            grey = image.astype(np.float64).mean(axis=-1).ravel()
            out.append((grey - grey.mean()) / (grey.std() + 1e-4))
        return np.array(out)

    mean = rows(train).mean(axis=0)
    _, _, vectors = np.linalg.svd(rows(train) - mean, full_matrices=False)
    kept = vectors[:components]
    centred = rows(test) - mean
    return (centred - centred @ kept.T @ kept) ** 2


def gabor_features(image: NDArray[np.uint8], grid: int, scales: int) -> NDArray[np.float64]:
    """(grid * grid, 8 * scales + 4) log features of (S, S, 3): 4 orientations, wavelength 4, sigma 2.5, 13 x 13."""
    grey = image.astype(np.float64).mean(axis=-1) / 255
    planes, scaled = [], grey
    for scale in range(scales):
        if scale:
            scaled = scaled.reshape(len(scaled) // 2, 2, len(scaled) // 2, 2).mean(axis=(1, 3))
        amplitudes = []
        for orientation in range(4):
            total = np.zeros_like(scaled)
            for wave in (math.cos, math.sin):
                total += correlate(scaled, _kernel(orientation * math.pi / 4, wave), mode="mirror") ** 2
            amplitudes.append(np.sqrt(total))
        planes += [_pool(one, grid, np.mean) for one in amplitudes] + [_pool(one, grid, np.max) for one in amplitudes]
    for window in (9, 25):
        mean = uniform_filter(grey, window, mode="mirror")
        variance = uniform_filter(grey**2, window, mode="mirror") - mean**2
        planes += [_pool(mean, grid, np.mean), _pool(np.sqrt(np.maximum(variance, 0)), grid, np.mean)]
    return np.log(np.stack([plane.ravel() for plane in planes], axis=1) + 1e-6)


def gabor_map(train: NDArray[np.float64], test: NDArray[np.float64], ridge: float, smoothing: float) -> NDArray:
    """Smoothed Mahalanobis map of features (P, d) under Gaussians of (N, P, d), one position at a time."""
    distances = []
    for position in range(train.shape[1]):
        covariance = np.cov(train[:, position], rowvar=False)
        covariance += (ridge * np.trace(covariance) / len(covariance) + 1e-6) * np.eye(len(covariance))
        offset = test[position] - train[:, position].mean(axis=0)
        distances.append(math.sqrt(offset @ np.linalg.inv(covariance) @ offset))
    side = math.isqrt(len(distances))
    return gaussian_filter(np.array(distances).reshape(side, side), smoothing)


def gaussian_map(
    train: NDArray[np.float64],
    test: NDArray[np.float64],
    shrinkage: float,
    ridge: float,
    smoothing: float,
    normalised: bool = False,
) -> NDArray[np.float64]:
    """Smoothed Mahalanobis map of features (h, w, C) under Gaussians of (N, h, w, C), covariances drawn together.

    `normalised`: each position's distance over that of a normal image left out there, its square kept above a tenth.
    """
    places = list(np.ndindex(test.shape[:2]))
    own = {place: np.cov(train[:, *place].astype(np.float64), rowvar=False) for place in places}
    means = np.array([train[:, *place].mean(axis=0, dtype=np.float64) for place in places])
    spread = np.sqrt(np.mean([np.diag(one) for one in own.values()], axis=0) + means.var(axis=0))
    own = {place: one / np.outer(spread, spread) for place, one in own.items()}
    pooled = np.mean(list(own.values()), axis=0)
    result, usual = np.empty(test.shape[:2]), np.empty(test.shape[:2])
    for place, mean in zip(places, means, strict=True):
        covariance = (1 - shrinkage) * own[place] + shrinkage * pooled + ridge * np.eye(len(spread))
        inverse = np.linalg.inv(covariance)
        offset = (test[place] - mean) / spread
        result[place] = math.sqrt(offset @ inverse @ offset)
        square = np.trace(inverse @ own[place])
        usual[place] = square / (1 - (1 - shrinkage) * square / len(train))
    if normalised:
        result /= np.sqrt((usual / usual.mean() + 0.1) / 1.1)
    return gaussian_filter(result, smoothing)


def _kernel(angle: float, wave) -> NDArray[np.float64]:  # type: ignore[no-untyped-def]
    kernel, envelope = np.zeros((13, 13)), 0.0
    for y in range(-6, 7):
        for x in range(-6, 7):
            weight = math.exp(-(x * x + y * y) / (2 * 2.5**2))
            envelope += weight
            kernel[y + 6, x + 6] = weight * wave(math.pi / 2 * (x * math.cos(angle) + y * math.sin(angle)))
    return (kernel - kernel.mean()) / envelope


def _pool(plane: NDArray[np.float64], grid: int, how) -> NDArray[np.float64]:  # type: ignore[no-untyped-def]
    cell = len(plane) // grid
    return np.array(
        [[how(plane[y * cell : (y + 1) * cell, x * cell : (x + 1) * cell]) for x in range(grid)] for y in range(grid)]
    )
