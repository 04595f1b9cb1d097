"""The promised overkill holds on average: drawn good images, detectors fitted, thresholds set, new images judged."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stages.detectors.registry import CONFIGS, detector
from stages.score.calibration import deployed_threshold
from stages.training import Session
from stages.types import Samples

SIDE, CHANNELS = 32, 4
TRAINING, VALIDATION, NEW = 24, 19, 40
SMALL: dict[str, dict[str, Any]] = {
    "pca": {"image_side": SIDE},
    "gabor": {"image_side": SIDE, "grid": 4, "scales": 1},
    "padim": {"image_side": 64, "compare_features": False},
    "knn": {"features": "raw", "memory_size": 200, "compare_features": False},
}


def draw(rng: np.random.Generator, count: int) -> Samples:
    """Good images of one kind: a texture whose contrast differs from image to image, and tokens likewise."""
    contrast = rng.gamma(4, 8, (count, 1, 1, 1))
    images = (128 + contrast * rng.normal(size=(count, SIDE, SIDE, 3))).clip(0, 255).astype(np.uint8)
    tokens = rng.gamma(4, 0.25, (count, 1, 1, 1)) * rng.normal(size=(count, 4, 4, CHANNELS))

    def features(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Means and deviations of cells, in place of a CNN's features."""
        cells = pixels.astype(np.float32).reshape(len(pixels), 4, 8, 4, 8, 3)
        return np.concatenate([cells.mean((2, 4)), cells.std((2, 4))], axis=-1)

    return Samples([str(i) for i in range(count)], images, raw=tokens.astype(np.float16), imagenet=features)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long) if name == "gabor" else name for name in SMALL]
)
def test_a_line_rejects_the_promised_share_on_average(name: str) -> None:
    """19 validation images promise 1 / 20. Of 60 lines with 40 new images each, the mean has a standard error of about
    0.008. A threshold from images that the model had seen would reject far more."""
    method, config = detector(name), CONFIGS[name](**{**SMALL[name], "fit_on": "train"})
    overkill, optimistic = [], []
    for line in range(60):
        images = draw(np.random.default_rng([line, 7]), TRAINING + VALIDATION + NEW)
        parts = np.split(np.arange(len(images)), [TRAINING, TRAINING + VALIDATION])
        train, validation, new = map(images.take, parts)
        fitted = method.fit(train, validation, config, line, Session())
        seen, calibration, scores = (
            np.array([one.image_score for one in method.score(fitted, part, config, "cpu")])
            for part in (train, validation, new)
        )
        for result, of in ((overkill, calibration), (optimistic, seen)):
            threshold = deployed_threshold(of, 0.05)
            assert threshold.value is not None
            result.append(float((scores > threshold.value).mean()))
    assert 0.03 < np.mean(overkill) < 0.07
    assert np.mean(optimistic) > 0.08
