"""The features of a cell minus their prediction from the cells around it. `context` models this residual.

A linear map, the same at all positions, predicts the features of a cell from those of the eight cells at `distance`
to its sides and corners (beyond the border: from the cells on the border). It is fitted to good images by ridge
regression. What extends further than `distance`, such as effects of lot, exposure and grain, is subtracted; a smaller
defect remains, since no cell around it shows it.

Source: the principle is InTra's (Pirnay and Chai, 2021, section 3.1: a patch is painted anew from those around it). To
apply it to features, and by regression instead of a network, is ours.

Legend: n images; h, w grid; P = h * w cells; C channels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FITTED_ON = 128
"""Images, evenly spread, that the map is fitted to: tens of thousands of cells."""
RIDGE = 0.03
"""Added to the variance of each input, as a share of it."""


def evenly_spaced(count: int) -> NDArray[np.int64]:
    """Indices of up to `FITTED_ON` of `count` images, the first and the last included."""
    return np.unique(np.linspace(0, count - 1, min(count, FITTED_ON)).round().astype(np.int64))


def neighbour_indices(shape: tuple[int, int], distance: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """For each of the eight neighbours: its row for each row of a grid (h, w), its column for each column."""
    rows, columns = ({by: (np.arange(n) + by).clip(0, n - 1) for by in (-distance, 0, distance)} for n in shape)
    return [(rows[i], columns[j]) for i in rows for j in columns if (i, j) != (0, 0)]


def neighbour_features(features: NDArray[np.float32], distance: int) -> NDArray[np.float32]:
    """(h, w, C) -> (h, w, 8 * C): the features of the eight neighbours."""
    indices = neighbour_indices((features.shape[0], features.shape[1]), distance)
    return np.concatenate([features[rows][:, columns] for rows, columns in indices], axis=-1)


def fit(features: NDArray[np.float32], distance: int) -> NDArray[np.float32]:
    """Fit the linear map (8 * C, C) that predicts features (n, h, w, C) from neighbours at `distance`, at least 1.

    The mean over images at each position is subtracted first.
    """
    features = features - features.mean(axis=0)
    channels = features.shape[-1]
    gram, products = np.zeros((8 * channels, 8 * channels)), np.zeros((8 * channels, channels))
    for image in features:
        x = neighbour_features(image, distance).reshape(-1, 8 * channels)
        gram += x.T @ x
        products += x.T @ image.reshape(len(x), channels)
    # The tiny constant prevents a division by zero with a single image, or with identical images.
    gram[np.diag_indices(8 * channels)] += RIDGE * np.diagonal(gram) + 1e-9
    return np.linalg.solve(gram, products).astype(np.float32)


def residual(features: NDArray[np.float32], weights: NDArray[np.float32], distance: int) -> NDArray[np.float32]:
    """The features (h, w, C) of an image minus their prediction.

    Args:
        weights: (8 * C, C) from `fit`.
    """
    inputs = neighbour_features(features, distance)
    prediction = inputs.reshape(-1, inputs.shape[-1]) @ weights
    return features - prediction.reshape(features.shape)
