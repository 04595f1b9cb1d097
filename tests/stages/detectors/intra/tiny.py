"""The smallest useful InTra."""

from __future__ import annotations

from stages.detectors.intra.config import IntraConfig

TINY = IntraConfig(
    space="pixels", image_side=16, patch_side=4, window_side=3, blocks=2, width=8, heads=2, mlp_ratio=2,
    windows_per_image=8, epochs=3, patience=3, batch=16, lr=0.003, warmup_steps=2, validation_windows=6,
    inference_windows=16, smoothing_side=3, compare="msgms",
)  # fmt: skip
CANVAS = TINY.canvas((16, 16, 3))
