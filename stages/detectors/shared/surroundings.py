"""The features of a cell minus their prediction from the cells around it. PaDiM, EAR and InTra model this residual.

A linear map, the same at all positions, predicts the features of a cell from those of the eight cells at `distance`
to its sides and corners (beyond the border: from the cells on the border), and from extra inputs, if there are any. It
is fitted to good images by ridge regression. What extends further than `distance`, such as effects of lot, exposure
and grain, is subtracted; a smaller defect remains, since no cell around it shows it.

Source: the principle is InTra's (Pirnay and Chai, 2021, section 3.1: a patch is painted anew from those around it). To
apply it to features, and by regression instead of a network, is ours.

Legend: n images; h, w grid; P = h * w cells; C channels; E extra inputs per cell; D = 8 * C + E inputs.
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
    """For each of the eight neighbours, row by row: its row for each row of a grid (h, w), its column for each column.

    With `distance` 0 the list is empty.
    """
    rows, columns = ({by: (np.arange(n) + by).clip(0, n - 1) for by in (-distance, 0, distance)} for n in shape)
    return [(rows[i], columns[j]) for i in rows for j in columns if (i, j) != (0, 0)]


def neighbour_features(features: NDArray[np.float32], distance: int) -> NDArray[np.float32]:
    """(h, w, C) -> (h, w, 8 * C): the features of the eight neighbours; with `distance` 0: (h, w, 0)."""
    indices = neighbour_indices((features.shape[0], features.shape[1]), distance)
    return np.concatenate([features[..., :0], *(features[rows][:, columns] for rows, columns in indices)], axis=-1)


def fit(features: NDArray[np.float32], distance: int, extra: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """Fit the linear map (D, C) that predicts features (n, h, w, C).

    The mean over images at each position is subtracted from features and extra inputs.

    Args:
        extra: (n, h, w, E) inputs beside the features of the neighbours.
    """
    extra = features[..., :0] if extra is None else extra
    extra, features = extra - extra.mean(axis=0), features - features.mean(axis=0)
    inputs = 8 * features.shape[-1] * (distance > 0) + extra.shape[-1]
    gram, products = np.zeros((inputs, inputs)), np.zeros((inputs, features.shape[-1]))
    for image_features, image_extra in zip(features, extra, strict=True):
        x = _inputs(image_features, distance, image_extra)
        gram += x.T @ x
        products += x.T @ image_features.reshape(len(x), -1)
    # The tiny constant prevents a division by zero with a single image, or with identical images.
    gram[np.diag_indices(inputs)] += RIDGE * np.diagonal(gram) + 1e-9
    return np.linalg.solve(gram, products).astype(np.float32)


def residual(
    features: NDArray[np.float32],
    weights: NDArray[np.float32],
    distance: int,
    extra: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """The features (h, w, C) of an image minus their prediction.

    Args:
        weights: (D, C) from `fit`.
        extra: (h, w, E) inputs beside the features of the neighbours.
    """
    prediction = _inputs(features, distance, extra) @ weights
    return features - prediction.reshape(features.shape)


def _inputs(
    features: NDArray[np.float32], distance: int, extra: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """(P, D)."""
    parts = [neighbour_features(features, distance), *([] if extra is None else [extra])]
    return np.concatenate(parts, axis=-1).reshape(features.shape[0] * features.shape[1], -1)
