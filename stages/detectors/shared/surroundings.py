"""What a cell's features are, given those around it: PaDiM, EAR and InTra model what this leaves.

A linear map, one for all positions, predicts the features of a cell from those of the eight cells at `distance` to its
sides and corners (beyond the border: those on it), and from whatever else is given. It is fitted to normal images by
ridge regression. What reaches further than `distance`, as lot, exposure and grain do, falls out; a defect that is
smaller cannot explain itself.

Source: the principle is InTra's (Pirnay and Chai, 2021, section 3.1: a patch is painted anew from those around it), in
features and by regression in place of a network; that is ours.

Legend: n images; h, w grid; P = h * w cells; C channels; E more inputs of a cell; D = 8 * C + E inputs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FITTED_ON = 128
"""Images, evenly spread, that the map is fitted to: tens of thousands of cells."""
RIDGE = 0.03
"""Added to the variance of each input, as a share of it."""


def few(count: int) -> NDArray[np.int64]:
    """Numbers of up to `FITTED_ON` of so many images."""
    return np.unique(np.linspace(0, count - 1, min(count, FITTED_ON)).round().astype(np.int64))


def neighbours(shape: tuple[int, int], distance: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """For each of the eight, row by row: which row, and which column, it has for a cell of each row and each column of
    a grid (h, w). `distance` 0: none."""
    rows, columns = ({by: (np.arange(n) + by).clip(0, n - 1) for by in (-distance, 0, distance)} for n in shape)
    return [(rows[i], columns[j]) for i in rows for j in columns if (i, j) != (0, 0)]


def around(features: NDArray[np.float32], distance: int) -> NDArray[np.float32]:
    """(h, w, C) -> (h, w, 8 * C), row by row; `distance` 0: (h, w, 0)."""
    near = neighbours((features.shape[0], features.shape[1]), distance)
    return np.concatenate([features[..., :0], *(features[rows][:, columns] for rows, columns in near)], axis=-1)


def fit(features: NDArray[np.float32], distance: int, more: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """(D, C) map from the surroundings of features (n, h, w, C), and (n, h, w, E) more inputs, to the features.

    Both are taken less their mean at each position.
    """
    given = features[..., :0] if more is None else more
    given, features = given - given.mean(axis=0), features - features.mean(axis=0)
    inputs = 8 * features.shape[-1] * (distance > 0) + given.shape[-1]
    gram, products = np.zeros((inputs, inputs)), np.zeros((inputs, features.shape[-1]))
    for one, other in zip(features, given, strict=True):
        x = _inputs(one, distance, other)
        gram += x.T @ x
        products += x.T @ one.reshape(len(x), -1)
    # the tiny constant keeps a single image, or equal ones, from dividing by zero
    gram[np.diag_indices(inputs)] += RIDGE * np.diagonal(gram) + 1e-9
    return np.linalg.solve(gram, products).astype(np.float32)


def left(
    features: NDArray[np.float32],
    prediction: NDArray[np.float32],
    distance: int,
    more: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """What the prediction (D, C) leaves of an image's features (h, w, C)."""
    found = _inputs(features, distance, more) @ prediction
    return features - found.reshape(features.shape)


def _inputs(
    features: NDArray[np.float32], distance: int, more: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """(P, D)."""
    parts = [around(features, distance), *([] if more is None else [more])]
    return np.concatenate(parts, axis=-1).reshape(features.shape[0] * features.shape[1], -1)
