"""The restoration: a canvas inpainted patch by patch (arXiv:2104.13897, section 3.3).

Legend: S side in pixels or cells; Z channels; G grid side; K patch side; P = K * K * Z values of a patch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.detectors.intra import windows as win
from stages.detectors.intra.canvas import Canvas
from stages.detectors.intra.config import IntraConfig
from stages.detectors.intra.model import InpaintingTransformer, build
from stages.detectors.intra.task import as_values
from stages.detectors.shared.network_weights import load_weights
from stages.types import batches


def load(arrays: Mapping[str, NDArray[Any]], config: IntraConfig, canvas: Canvas) -> InpaintingTransformer:
    """The trained network, in eval mode."""
    network = build(config, canvas, seed=0)
    load_weights(network, arrays)
    return network.eval()


@torch.inference_mode()
def inpaint(
    network: InpaintingTransformer, image: win.Pixels, canvas: Canvas, config: IntraConfig, device: str
) -> Tensor:
    """Paint every patch of a canvas from the window around it: (S, S, Z) -> (S, S, Z); pixels in [0, 1].

    One image alone, in chunks of windows that depend on the configuration only: the result cannot depend on other
    images.
    """
    windows = win.centred(canvas.grid, config.window_side)
    positions = torch.from_numpy(windows.positions).to(device)
    covered = torch.from_numpy(windows.covered).to(device)
    pixels = as_values(torch.from_numpy(win.to_patches(image, canvas.patch)).to(device))  # (G * G, P)
    painted = [
        network(pixels[positions[chunk]], positions[chunk], covered[chunk])
        for chunk in batches(len(positions), config.inference_windows)
    ]
    return joined(torch.cat(painted), canvas, config)


def joined(patches: Tensor, canvas: Canvas, config: IntraConfig) -> Tensor:
    """Painted patches (G * G, P) -> (S, S, Z). Pixels are clipped to [0, 1]."""
    cut = patches.view(canvas.grid, canvas.grid, canvas.patch, canvas.patch, canvas.channels)
    whole = cut.transpose(1, 2).reshape(canvas.side, canvas.side, canvas.channels)  # (G, K, G, K, Z) -> (S, S, Z)
    return whole.clamp(0, 1) if config.space == "pixels" else whole
