"""PCA baseline: the anomaly map is what the principal components of good images cannot reconstruct.

Each image is converted to grey (mean of the channels) and standardised by its own mean and standard deviation. The
anomaly map is the squared error per pixel, the image score its mean.

Legend: N images; S image side; D = S*S pixels; K components.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stages.detectors.pca.config import PcaConfig
from stages.detectors.shared.held_out import fit_with_validation_results
from stages.types import Fitted, Samples, ScoreMap, batches

if TYPE_CHECKING:
    from stages.training import Session

_BATCH = 256


def needs(config: PcaConfig) -> frozenset[str]:
    """Pixels only."""
    return frozenset()


def fit(train: Samples, validation: Samples, config: PcaConfig, seed: int, session: Session) -> Fitted:
    """Compute the mean image and the principal components. `seed` is that of the randomised decomposition."""

    def fit_on_training() -> tuple[Fitted, Samples]:
        return _fit_components((train,), config, seed), train

    def extend(train: Samples) -> Fitted:
        return _fit_components((train, validation), config, seed)

    return fit_with_validation_results(fit_on_training, extend, validation, config, session.device, score)


def _fit_components(parts: Sequence[Samples], config: PcaConfig, seed: int) -> Fitted:
    pixels = np.concatenate([standardised(part.images[rows]) for part in parts for rows in batches(len(part), _BATCH)])
    mean = pixels.mean(axis=0, dtype=np.float64).astype(np.float32)  # (D,)
    pixels -= mean  # in place: the array holds all images
    count = min(config.components, len(pixels) - 1, pixels.shape[1])
    components, explained = _principal_components(pixels, count, seed)
    return Fitted(
        arrays={"mean": mean, "components": components},
        info={"components": count},
        metrics={"components": count, "explained_variance": round(explained, 4)},
    )


def score(fitted: Fitted, samples: Samples, config: PcaConfig, device: str) -> Iterator[ScoreMap]:
    """Yield the squared reconstruction error per pixel, (S, S), and its mean as image score.

    It runs on the CPU, whatever `device` is: the work is one matrix-vector product per image.
    """
    mean, components = fitted.arrays["mean"], fitted.arrays["components"]
    for rows in batches(len(samples), _BATCH):
        for pixels in standardised(samples.images[rows]):
            centred = pixels - mean
            # One image at a time: a product with several columns may sum in another order.
            error = (centred - (components @ centred) @ components) ** 2  # (D,)
            yield ScoreMap(error.reshape(config.image_side, config.image_side), float(error.mean(dtype=np.float64)))


def standardised(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(B, S, S, 3) -> (B, D): grey pixels, mean 0 and standard deviation 1 per image. A constant image becomes 0."""
    grey = images.mean(axis=-1, dtype=np.float32).reshape(len(images), -1)
    grey -= grey.mean(axis=1, keepdims=True)
    return grey / (grey.std(axis=1, keepdims=True) + np.float32(1e-4))


def _principal_components(centred: NDArray[np.float32], count: int, seed: int) -> tuple[NDArray[np.float32], float]:
    """The `count` leading right singular vectors (K, D) of (N, D), and the share of variance they explain, 0 to 1."""
    if count == 0:  # a single image is reconstructed by the mean alone
        return np.zeros((0, centred.shape[1]), dtype=np.float32), 0.0
    from sklearn.utils.extmath import randomized_svd

    _, values, vectors = randomized_svd(centred, count, random_state=seed)
    total = float((centred.astype(np.float64) ** 2).sum())
    return np.ascontiguousarray(vectors, dtype=np.float32), float((values**2).sum()) / total if total else 0.0
