"""Import this before timm, lightning or torchvision.

torchvision from the package index is compiled against CUDA; beside a CPU-only torch its operators are missing and its
import fails. Declaring the schemas of the two that it registers at import is enough; we call neither.
"""

from __future__ import annotations

import torch

_LIBRARY = torch.library.Library("torchvision", "FRAGMENT")
for _name in ("nms", "qnms"):
    if not hasattr(torch.ops.torchvision, _name):
        _LIBRARY.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def device_named(name: str) -> str:
    """`auto` becomes `cuda` where there is one, else `cpu`; other names stay."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name
