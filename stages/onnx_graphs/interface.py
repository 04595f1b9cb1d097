"""What a graph for export is: a network that does all that `score` does with one image, and what goes into it.

The graphs stand beside the detectors, not within: a change in how one is exported must not train it again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from torch import nn

from stages.types import Fitted, Rows, Samples, UserError

OUTPUTS = {
    "anomaly_map": "higher is more anomalous",
    "image_score": "higher is more anomalous; above the threshold the image is rejected",
}
"""What a detector's graph gives, both float32: (h, w) and ()."""


@dataclass(frozen=True)
class Input:
    """One input of a graph."""

    name: str
    shape: tuple[int, ...]
    dtype: Literal["uint8", "float32"]
    meaning: str
    """What it holds, and how to make it."""

    def example(self) -> NDArray[Any]:
        """Zeros of its shape: the graph is the same whatever the values."""
        return np.zeros(self.shape, self.dtype)


@dataclass(frozen=True)
class ExportGraph:
    """A detector, or what it reads, as a network of tensors."""

    module: nn.Module
    """In eval mode; takes `inputs` in their order, returns `outputs`."""
    inputs: tuple[Input, ...]
    outputs: tuple[str, ...] = tuple(OUTPUTS)


def image_input(side: int) -> Input:
    """(1, S, S, 3) uint8."""
    meaning = f"RGB image, resized to {side} x {side} with antialiasing, bilinear, aspect ratio not kept; values 0..255"
    return Input("image", (1, side, side, 3), "uint8", meaning)


FEATURES = {
    "raw": "patch tokens of the project's backbone, as they come",
    "clean": "patch tokens of the project's backbone after its denoiser",
    "attention": "the class token's attention to the patches in the project's backbone",
}
ROUNDED = "rounded to half precision as the project stores them"


def feature_input(name: str, samples: Samples) -> Input:
    """(1, h, w, C) tokens `raw` or `clean`, or (1, heads, h, w) `attention`.

    Raises:
        UserError: the images come without it.
    """
    rows: Rows | None = getattr(samples, name)
    if rows is None:
        raise UserError(f"the images come without '{name}' of the backbone, which the detector reads")
    meaning = f"{FEATURES[name]}, of the same image, {ROUNDED}: output `{name}` of backbone.onnx"
    return Input(name, (1, *rows.shape[1:]), "float32", meaning)


Graph = Callable[[Fitted, Any, Samples, "nn.Module | None"], ExportGraph]
"""`graph(fitted, config, samples, cnn)` of each detector's module.

`samples` say the shapes of what the backbone gives; `cnn` is the network behind `Samples.imagenet`, (B, 3, S, S) pixels
in 0..255 to (B, C, h, w) features and something else, for a detector that reads it.
"""


def graph_of(detector: str) -> Graph:
    """The detector's function `graph`."""
    return cast(Graph, import_module(f"stages.onnx_graphs.{detector}").graph)
