"""The saliency network that the package of `focus` carries: its ViT, whole, and its decoder.

The decoder is three transposed convolutions, each with batch normalisation and ReLU, and a 1 x 1 convolution. Its map
is resized to the image, and a sigmoid gives the saliency of each pixel. The weights are read from the same file as
those of `focus`; agreement with the file's own output to 0.0001 is tested.

Legend: B images; S image side; h, w grid of patches; C channels.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

from stages.backbone.config import FOCUS_ARCHITECTURE
from stages.backbone.networks.crops import to_pixels
from stages.backbone.networks.focus import PATCH, focus_file, focus_weights
from stages.backbone.networks.timm_models import create
from stages.torch_setup import one_thread
from stages.types import UserError

CHANNELS = (384, 256, 128, 64)
"""Of the tokens, and after each transposed convolution, which doubles the side."""


class Decoder(nn.Module):
    """(B, C, h, w) tokens -> (B, 1, 8 h, 8 w) saliency before the sigmoid."""

    def __init__(self) -> None:
        super().__init__()
        for number, (inner, outer) in enumerate(pairwise(CHANNELS), start=1):
            self.add_module(f"upconv{number}", nn.ConvTranspose2d(inner, outer, 4, stride=2, padding=1))
            self.add_module(f"bn{number}", nn.BatchNorm2d(outer))
        self.final_conv = nn.Conv2d(CHANNELS[-1], 1, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        for number in range(1, len(CHANNELS)):
            raised = self.get_submodule(f"upconv{number}")(tokens)
            tokens = F.relu(self.get_submodule(f"bn{number}")(raised))
        out: Tensor = self.final_conv(tokens)
        return out


class SaliencyNetwork:
    """Saliency of images, image by image in one thread, so that it does not depend on the other images."""

    def __init__(self, image_side: int) -> None:
        """
        Raises:
            UserError: the side is no multiple of 14, or the package is missing or holds another file.
        """
        if image_side % PATCH:
            raise UserError(f"the saliency network's side {image_side} is not a multiple of its patch size {PATCH}")
        self.image_side = image_side
        vit: Any = create(FOCUS_ARCHITECTURE, image_side)
        vit.load_state_dict(focus_weights(image_side))
        decoder = Decoder()
        weights = {
            tensor.name.removeprefix("decoder."): torch.from_numpy(numpy_helper.to_array(tensor).copy())
            for tensor in onnx.load(focus_file()).graph.initializer
            if tensor.name.startswith("decoder.")
        }
        counters = {name: value for name, value in decoder.state_dict().items() if name.endswith("num_batches_tracked")}
        decoder.load_state_dict(weights | counters)
        self._vit, self._decoder = vit.eval(), decoder.eval()
        cfg = vit.pretrained_cfg
        self._mean, self._spread = (255 * torch.tensor(cfg[key])[:, None, None] for key in ("mean", "std"))

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(B, S, S, 3) uint8 RGB -> (B, S, S) in [0, 1].

        Raises:
            ValueError: another shape or type.
        """
        side = self.image_side
        if images.dtype != np.uint8 or images.shape[1:] != (side, side, 3):
            raise ValueError(f"the network reads uint8 (B, {side}, {side}, 3), not {images.dtype} {images.shape}")
        with torch.inference_mode(), one_thread():
            return np.stack([self._of(to_pixels(image[None])) for image in images])

    def _of(self, pixels: Tensor) -> NDArray[np.float32]:
        """(1, 3, S, S) pixels in [0, 255] -> (S, S)."""
        tokens = self._vit.forward_features((pixels - self._mean) / self._spread)[:, 1:]  # without the class token
        grid = (self.image_side // PATCH, self.image_side // PATCH)
        plane = self._decoder(tokens.transpose(1, 2).reshape(1, -1, *grid))
        resized = F.interpolate(plane, pixels.shape[-2:], mode="bilinear", align_corners=False)
        saliency: NDArray[np.float32] = torch.sigmoid(resized)[0, 0].numpy()
        return saliency
