"""What backbone and denoiser say of images, as the stages `features` and `clean_features` store it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stages.backbone.networks.load import load
from stages.denoise.denoiser import apply_denoiser
from stages.types import Fitted, UserError


class Extractor:
    """Loaded once, used batch by batch."""

    def __init__(self, fitted: Callable[[str], Fitted], clean: bool, distilled: bool, device: str) -> None:
        """
        Args:
            fitted: of `backbone`, and of `denoiser` or `denoiser/distilled`, the model.
            clean: whether `clean` is wanted too, from a distilled backbone where there is one.
        """
        self.backbone = load(fitted("backbone"), device)
        self._distilled = load(fitted("denoiser/distilled"), device) if clean and distilled else None
        self._denoise = apply_denoiser(fitted("denoiser"), device) if clean and not distilled else None

    def of(self, pixels: NDArray[np.uint8]) -> dict[str, NDArray[np.float16]]:
        """(B, S, S, 3) -> `raw` (B, h, w, C), and `attention` (B, heads, h, w) and `clean` where there are such."""
        found = self.backbone.extract(pixels)
        raw = found.tokens.astype(np.float16)
        if not np.isfinite(raw).all():
            raise UserError("the backbone's tokens are NaN, infinite or beyond 65,504: check its weights")
        features = {"raw": raw}
        if found.attention is not None:
            features["attention"] = found.attention.astype(np.float16)
        if self._distilled is not None:
            features["clean"] = self._distilled.extract(pixels).tokens.astype(np.float16)
        elif self._denoise is not None:
            features["clean"] = self._denoise(raw.astype(np.float32)).astype(np.float16)
        return features

    def at_most(self, images: int) -> None:
        """A GPU's memory does not do for more at once."""
        for network in (self.backbone, self._distilled):
            if network is not None:
                network.most = min(images, network.most)
