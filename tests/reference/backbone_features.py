"""Slow, plain versions: the CNN stack from timm's own unfolded network, and attention by loops."""

from __future__ import annotations

import numpy as np

import stages.torch_setup  # noqa: F401  (before timm)

import timm  # isort: skip
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.backbone.networks.lite0 import _renamed


def mean_of_neighbours(level: NDArray[np.float32], zeros: bool) -> NDArray[np.float64]:
    """(c, H, W): mean over the 3 x 3 neighbours, those that lie inside alone or with zeros beyond the border."""
    result = np.empty(level.shape)
    for i in range(level.shape[1]):
        for j in range(level.shape[2]):
            inside = level[:, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2]
            count = 9 if zeros else inside.shape[1] * inside.shape[2]
            result[:, i, j] = inside.sum((1, 2), dtype=np.float64) / count
    return result


def cnn_stack(image: NDArray[np.uint8], patch: int, zeros: bool) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """(S, S, 3) uint8 -> stack (176, S/patch, S/patch) for patch 16, and stride-32 features (320, S/32, S/32)."""
    network = timm.create_model("tf_efficientnet_lite0", features_only=True, out_indices=(1, 2, 3, 4)).eval()
    weights = _renamed(timm.create_model("tf_efficientnet_lite0"))
    network.load_state_dict({k: v for k, v in weights.items() if k in network.state_dict()}, strict=False)
    pixels = torch.tensor((image.astype(np.float32) - 127) / 128).permute(2, 0, 1)[None]
    with torch.no_grad():
        *shallow, deep = [level[0].numpy() for level in network(pixels)]
    side, cells = image.shape[0] // patch, []
    for level in shallow:
        means, step = mean_of_neighbours(level, zeros), level.shape[-1] // side
        cells.append(means.reshape(len(level), side, step, side, step).mean((2, 4)))
    return np.concatenate(cells), deep


def attend(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """One head, (n, d) each: mixed values (n, d) and the weights (n, n), entry by entry."""
    n, d = q.shape
    weights = torch.empty(n, n)
    for i in range(n):
        scores = [float((q[i] * k[j]).sum().detach()) / d**0.5 for j in range(n)]
        exponents = [np.exp(s - max(scores)) for s in scores]
        weights[i] = torch.tensor([e / sum(exponents) for e in exponents])
    return weights @ v, weights
