"""The CNN that detectors read."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stages.backbone.imagenet import extractor
from tests.reference.backbone_features import cnn_stack


def test_what_detectors_read_counts_zeros_beyond_the_border(train: NDArray[np.uint8]) -> None:
    (result,) = extractor("lite0", 16, "cpu")(train[:1])
    expected, _ = cnn_stack(train[0], 16, zeros=True)
    np.testing.assert_allclose(result, expected.transpose(1, 2, 0), atol=2e-4)
