"""The restoration: an image inpainted patch by patch, and its pixel maps (arXiv:2104.13897, section 3.3).

Legend: N images; S side in pixels; G grid side; K patch side; P = K * K * 3 values of a patch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.detectors.intra import windows as win
from stages.detectors.intra.config import IntraConfig
from stages.detectors.intra.model import InpaintingTransformer, build
from stages.detectors.shared.network_weights import load_weights
from stages.detectors.shared.pixel_maps import PIXEL_KINDS, PixelKind, PixelStatistics, dissimilarity
from stages.detectors.shared.resizing import to_bytes
from stages.types import batches


def load(arrays: Mapping[str, NDArray[Any]], config: IntraConfig) -> InpaintingTransformer:
    """The trained network, in eval mode."""
    network = build(config, seed=0)
    load_weights(network, arrays)
    return network.eval()


@torch.inference_mode()
def inpaint(network: InpaintingTransformer, image: NDArray[np.uint8], config: IntraConfig, device: str) -> Tensor:
    """Paint every patch of an image from the window around it: (S, S, 3) uint8 -> (S, S, 3) in [0, 1].

    One image alone, in chunks of windows that depend on the configuration only: the result cannot depend on other
    images.
    """
    grid, patch = config.grid_side, config.patch_side
    windows = win.centred(grid, config.window_side)
    positions = torch.from_numpy(windows.positions).to(device)
    covered = torch.from_numpy(windows.covered).to(device)
    pixels = torch.from_numpy(win.to_patches(image, patch)).to(device).float() / 255  # (G * G, P)
    painted = [
        network(pixels[positions[chunk]], positions[chunk], covered[chunk])
        for chunk in batches(len(positions), config.inference_windows)
    ]
    patches = torch.cat(painted).clamp(0, 1).view(grid, grid, patch, patch, 3)
    return patches.transpose(1, 2).reshape(grid * patch, grid * patch, 3)  # (G, K, G, K, 3) -> (S, S, 3)


def pixel_map(image: Tensor, restoration: Tensor, kind: PixelKind, smoothing_side: int) -> Tensor:
    """1 - similarity under a mean filter: two (S, S, 3) in [0, 1] -> (S, S); at borders, the mean inside the image."""
    a, b = (x.permute(2, 0, 1)[None] for x in (image, restoration))  # (1, 3, S, S)
    smooth = torch.nn.functional.avg_pool2d(
        dissimilarity(a, b, kind), smoothing_side, stride=1, padding=smoothing_side // 2, count_include_pad=False
    )
    return smooth[0, 0]


def restore(
    network: InpaintingTransformer, image: NDArray[np.uint8], config: IntraConfig, device: str
) -> tuple[NDArray[np.uint8], dict[PixelKind, NDArray[np.float32]]]:
    """Restoration (S, S, 3) of an image, and its smoothed pixel map (S, S) of each kind."""
    restoration = inpaint(network, image, config, device)
    original = torch.from_numpy(image).to(device).float() / 255
    maps = {kind: pixel_map(original, restoration, kind, config.smoothing_side).cpu().numpy() for kind in PIXEL_KINDS}
    return to_bytes(restoration.permute(2, 0, 1)), maps


def restore_images(
    network: InpaintingTransformer,
    images: NDArray[np.uint8],
    statistics: PixelStatistics,
    config: IntraConfig,
    device: str,
) -> NDArray[np.uint8]:
    """The restorations (N, S, S, 3) of the images, whose pixel maps are added to `statistics`."""
    restorations = np.empty_like(images)
    for i, image in enumerate(images):
        restorations[i], maps = restore(network, image, config, device)
        statistics.add(maps)
    return restorations
