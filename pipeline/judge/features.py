"""Features of images by backbone and denoiser, as the stages `features` and `clean_features` store them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stages.backbone.networks.load import load
from stages.types import Fitted, UserError


class FeatureExtractor:
    """Backbone and denoiser, loaded once and used for every batch."""

    def __init__(self, fitted: Callable[[str], Fitted], clean: bool, distilled: bool, device: str) -> None:
        """
        Args:
            fitted: gives the model `backbone`, `denoiser` or `denoiser/distilled`.
            clean: whether to compute denoised features too.
            distilled: whether denoised features come from the distilled backbone instead of the denoiser.
        """
        self.backbone = load(fitted("backbone"), device)
        self._distilled = load(fitted("denoiser/distilled"), device) if clean and distilled else None
        self._denoise = None
        if clean and not distilled:
            from stages.denoise.denoiser import apply_denoiser  # loads Lightning

            self._denoise = apply_denoiser(fitted("denoiser"), device)

    def extract(self, pixels: NDArray[np.uint8]) -> dict[str, NDArray[np.float16]]:
        """Compute the features of B images.

        Args:
            pixels: (B, S, S, 3), S the backbone's `image_side`.

        Returns:
            `raw` (B, h, w, C); `attention` (B, heads, h, w) if the backbone has a class token; `clean` (B, h, w, C) if
            it is wanted.

        Raises:
            UserError: the backbone's tokens do not fit into half precision.
        """
        extracted = self.backbone.extract(pixels)
        raw = extracted.tokens.astype(np.float16)
        if not np.isfinite(raw).all():
            raise UserError("the backbone's tokens are NaN, infinite or beyond 65,504: check its weights")
        features = {"raw": raw}
        if extracted.attention is not None:
            features["attention"] = extracted.attention.astype(np.float16)
        if self._distilled is not None:
            features["clean"] = self._distilled.extract(pixels).tokens.astype(np.float16)
        elif self._denoise is not None:
            features["clean"] = self._denoise(raw.astype(np.float32)).astype(np.float16)
        return features

    def limit_batch(self, images: int) -> None:
        """Pass at most so many images through a network together, because memory does not suffice for more."""
        for network in (self.backbone, self._distilled):
            if network is not None:
                network.gpu_batch = min(images, network.gpu_batch)
