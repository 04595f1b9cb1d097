"""Feature maps of an ImageNet CNN for detectors that bring no backbone of their own: images in, stacked maps out."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from stages.backbone.networks.lite0 import Lite0, imagenet
from stages.torch_setup import one_thread
from stages.types import Extract, batches

GPU_BATCH = 16


def network_of(name: str, patch: int) -> Lite0:
    """The CNN of `extractor`: (B, 3, S, S) pixels in [0, 255] -> (B, C, S / patch, S / patch) and another.

    Its 3 x 3 mean counts zeros beyond the border, as PatchCore's does. So features at the border are small and differ
    little, and what lies there counts less: a part is cropped now here, now there.
    """
    return imagenet(patch, deep=False, name=name, zeros=True)


def extractor(network: str, patch: int, device: str, most: int = GPU_BATCH) -> Extract:
    """(B, S, S, 3) uint8 -> (B, S / patch, S / patch, C) float32; S is a multiple of 32.

    Image by image in one thread on a CPU, always `most` at once on a GPU, so that what an image gets does not depend on
    the images beside it.

    Args:
        network: `lite0`, `lite1` or `lite2`; strides 4, 8 and 16 after a 3 x 3 mean, 176, 176 or 192 channels.
        patch: pixels a cell of the grid.
    """
    model = network_of(network, patch).to(device)
    size = 1 if device == "cpu" else most

    def extract(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        found = []
        with torch.inference_mode(), one_thread():
            for part in batches(len(images), size):
                missing = np.zeros((size - len(images[part]), *images.shape[1:]), np.uint8)
                pixels = torch.from_numpy(np.concatenate([images[part], missing])).to(device)
                stack, _ = model(pixels.permute(0, 3, 1, 2).float())  # (b, C, h, w)
                found.append(stack[: len(images[part])].permute(0, 2, 3, 1).cpu().numpy())
        return np.concatenate(found)

    return extract
