"""InTra in pixels: what the restoration differs from the image by (arXiv:2104.13897, section 3.3).

Legend: N images; S side in pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.detectors.intra.canvas import Canvas
from stages.detectors.intra.config import IntraConfig
from stages.detectors.intra.model import InpaintingTransformer
from stages.detectors.intra.restore import inpaint, load
from stages.detectors.shared.pixel_maps import (
    PIXEL_KINDS,
    PixelKind,
    PixelStatistics,
    dissimilarity,
    pixel_scale,
    to_bytes,
)
from stages.types import Fitted, Samples, ScoreMap, batches

_READ = 8
"""Images read at a time."""


def pixel_map(image: Tensor, restoration: Tensor, kind: PixelKind, smoothing_side: int) -> Tensor:
    """1 - similarity under a mean filter: two (S, S, 3) in [0, 1] -> (S, S); at borders, the mean inside the image."""
    a, b = (x.permute(2, 0, 1)[None] for x in (image, restoration))  # (1, 3, S, S)
    smooth = torch.nn.functional.avg_pool2d(
        dissimilarity(a, b, kind), smoothing_side, stride=1, padding=smoothing_side // 2, count_include_pad=False
    )
    return smooth[0, 0]


def restore(
    network: InpaintingTransformer, image: NDArray[np.uint8], canvas: Canvas, config: IntraConfig, device: str
) -> tuple[NDArray[np.uint8], dict[PixelKind, NDArray[np.float32]]]:
    """Restoration (S, S, 3) of an image, and its smoothed pixel map (S, S) of each kind."""
    restoration = inpaint(network, image, canvas, config, device)
    original = torch.from_numpy(image).to(device).float() / 255
    maps = {kind: pixel_map(original, restoration, kind, config.smoothing_side).cpu().numpy() for kind in PIXEL_KINDS}
    return to_bytes(restoration.permute(2, 0, 1)), maps


class PixelFitter:
    """Fits the statistics of good images' pixel maps."""

    def __init__(self, network: InpaintingTransformer, canvas: Canvas, config: IntraConfig, device: str) -> None:
        self._restore = (network, canvas, config, device)
        self._statistics = PixelStatistics(canvas.side)

    def add(self, images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """Add good images (N, S, S, 3); the statistics of all images added so far."""
        network, canvas, config, device = self._restore
        for image in images:
            _, maps = restore(network, image, canvas, config, device)
            self._statistics.add(maps)
        return dict[str, NDArray[Any]](self._statistics.to_arrays())


def score(fitted: Fitted, samples: Samples, config: IntraConfig, device: str) -> Iterator[ScoreMap]:
    """Yield the map of `config.compare` and its maximum as image score.

    `msgms`: the squared difference between the image's pixel map and the mean pixel map of good images (section 3.3).
    `ssim`: the number of standard deviations by which the pixel map lies above that mean. Extras: the maximum of each
    kind of pixel map. Picture: `restoration`.
    """
    canvas = config.canvas((config.image_side, config.image_side, 3))
    network = load(fitted.arrays, config, canvas).to(device)
    for rows in batches(len(samples), _READ):
        for image in samples.images[rows]:
            restoration, differences = restore(network, image, canvas, config, device)
            yield _score(restoration, differences, fitted.arrays, config)


def _score(
    restoration: NDArray[np.uint8],
    differences: Mapping[PixelKind, NDArray[np.float32]],
    arrays: Mapping[str, NDArray[Any]],
    config: IntraConfig,
) -> ScoreMap:
    scale = pixel_scale(arrays["ssim.spread"]).astype(np.float32)
    maps = {
        "msgms": np.square(differences["msgms"] - arrays["msgms.mean"]),
        "ssim": (differences["ssim"] - arrays["ssim.mean"]) / scale,
    }
    deployed = maps[config.compare]
    return ScoreMap(
        anomaly_map=deployed,
        image_score=float(deployed.max()),
        extras={kind: float(plane.max()) for kind, plane in maps.items()},
        pictures={"restoration": restoration},
    )
