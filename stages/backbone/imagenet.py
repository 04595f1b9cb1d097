"""Feature maps of an ImageNet CNN for detectors without a backbone of their own: images in, stacked maps out."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from stages.backbone.networks.lite0 import Lite0, imagenet
from stages.torch_setup import one_thread
from stages.types import Extract, batches

GPU_BATCH = 16


def network_of(name: str, patch: int) -> Lite0:
    """The CNN of `extractor`: (B, 3, S, S) pixels in [0, 255] -> stacked maps (B, C, S / patch, S / patch), and the
    last map.

    Its 3 x 3 mean counts zeros beyond the border, as PatchCore's does. So features at the border are small and differ
    little, and the border counts less: parts are not always cropped at the same place.
    """
    return imagenet(patch, deep=False, name=name, zeros=True)


def extractor(network: str, patch: int, device: str, gpu_batch: int = GPU_BATCH) -> Extract:
    """(B, S, S, 3) uint8 -> (B, S / patch, S / patch, C) float32; S is a multiple of 32.

    On a CPU image by image in one thread, on a GPU always `gpu_batch` images at once, so that the features of an image
    do not depend on the other images.

    Args:
        network: `lite0`, `lite1` or `lite2`: maps of strides 4, 8 and 16 after a 3 x 3 mean, 176, 176 or 192 channels.
        patch: side of a grid cell in pixels.
    """
    model = network_of(network, patch).to(device)
    size = 1 if device == "cpu" else gpu_batch

    def extract(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        features = []
        with torch.inference_mode(), one_thread():
            for part in batches(len(images), size):
                padding = np.zeros((size - len(images[part]), *images.shape[1:]), np.uint8)
                pixels = torch.from_numpy(np.concatenate([images[part], padding])).to(device)
                stack, _ = model(pixels.permute(0, 3, 1, 2).float())  # (b, C, h, w)
                features.append(stack[: len(images[part])].permute(0, 2, 3, 1).cpu().numpy())
        return np.concatenate(features)

    return extract
