"""PCA floor: what the principal components of normal images cannot reconstruct is anomalous.

Each image is made grey (mean of the channels) and standardised by its own mean and deviation; the anomaly map is the
squared error per pixel, the image score its mean.

Legend: N images; S image side; D = S*S pixels; K components.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stages.detectors.pca.config import PcaConfig
from stages.detectors.shared.held_out import with_held_out
from stages.types import Fitted, Samples, ScoreMap, batches

if TYPE_CHECKING:
    from stages.training import Session

_BATCH = 256


def needs(config: PcaConfig) -> frozenset[str]:
    """Pixels only."""
    return frozenset()


def fit(train: Samples, validation: Samples, config: PcaConfig, seed: int, session: Session) -> Fitted:
    """Mean image and principal components of normal images; `seed` starts the randomised decomposition."""
    models = (_fitted(parts, config, seed) for parts in ((train,), (train, validation)))
    return with_held_out(models, validation, config, session.device, score)


def _fitted(parts: Sequence[Samples], config: PcaConfig, seed: int) -> Fitted:
    pixels = np.concatenate([standardised(part.images[rows]) for part in parts for rows in batches(len(part), _BATCH)])
    mean = pixels.mean(axis=0, dtype=np.float64).astype(np.float32)  # (D,)
    pixels -= mean  # in place: this is all the images
    count = min(config.components, len(pixels) - 1, pixels.shape[1])
    components, explained = _principal(pixels, count, seed)
    return Fitted(
        arrays={"mean": mean, "components": components},
        info={"components": count},
        metrics={"components": count, "explained_variance": round(explained, 4)},
    )


def score(fitted: Fitted, samples: Samples, config: PcaConfig, device: str) -> Iterator[ScoreMap]:
    """Squared reconstruction error per pixel, (S, S), and its mean. Always on the CPU: a matrix-vector product."""
    mean, components = fitted.arrays["mean"], fitted.arrays["components"]
    for rows in batches(len(samples), _BATCH):
        for pixels in standardised(samples.images[rows]):
            centred = pixels - mean
            # one image at a time: a product with several columns may sum in another order
            error = (centred - (components @ centred) @ components) ** 2  # (D,)
            yield ScoreMap(error.reshape(config.image_side, config.image_side), float(error.mean(dtype=np.float64)))


def standardised(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(B, S, S, 3) -> (B, D): grey pixels with mean 0 and deviation 1 in each image; a constant image becomes zeros."""
    grey = images.mean(axis=-1, dtype=np.float32).reshape(len(images), -1)
    grey -= grey.mean(axis=1, keepdims=True)
    return grey / (grey.std(axis=1, keepdims=True) + np.float32(1e-4))


def _principal(centred: NDArray[np.float32], count: int, seed: int) -> tuple[NDArray[np.float32], float]:
    """K leading right singular vectors (K, D) of (N, D), and the share of the variance that they explain, 0..1."""
    if count == 0:  # a single image: reconstruct by the mean
        return np.zeros((0, centred.shape[1]), dtype=np.float32), 0.0
    from sklearn.utils.extmath import randomized_svd

    _, values, vectors = randomized_svd(centred, count, random_state=seed)
    total = float((centred.astype(np.float64) ** 2).sum())
    return np.ascontiguousarray(vectors, dtype=np.float32), float((values**2).sum()) / total if total else 0.0
